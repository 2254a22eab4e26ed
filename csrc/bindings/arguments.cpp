#include "bindings/arguments.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "bindings/dlpack.h"

namespace machin_fast {
namespace {

const dlpack::ExchangeApi* api = nullptr;
PyTypeObject* tensor_type = nullptr;

constexpr const char* kCapsule = "machin_fast.views";

// One tensor of a storage, and where its memory was: while it is there, so is that of all tensors
// of the storage.
struct Anchor {
  PyObject* tensor;
  const void* data;
};

// What a capsule points to.
struct Views {
  Owned tensors;  // a tuple
  std::vector<Array> arrays;
  std::vector<uint32_t> types;
  std::vector<int64_t> numbers;  // shapes and strides of the arrays
  std::vector<Anchor> anchors;   // one of each storage
};

void release(PyObject* capsule) {
  delete static_cast<Views*>(PyCapsule_GetPointer(capsule, kCapsule));
}

DType dtype_of(const dlpack::Tensor& x) {
  const auto is = [&](uint8_t code, uint8_t bits) {
    return x.type_code == code && x.type_bits == bits && x.type_lanes == 1;
  };
  if (is(dlpack::kFloat, 32)) return DType::kFloat32;
  if (is(dlpack::kFloat, 64)) return DType::kFloat64;
  if (is(dlpack::kInt, 64)) return DType::kInt64;
  if (is(dlpack::kInt, 32)) return DType::kInt32;
  if (is(dlpack::kUInt, 8)) return DType::kUInt8;
  if (is(dlpack::kBool, 8)) return DType::kBool;
  return DType::kOther;
}

uint32_t type_of(const dlpack::Tensor& x) {
  return uint32_t(x.type_code) << 24 | uint32_t(x.type_bits) << 16 | x.type_lanes;
}

// "float16"; for dtypes that Array's texts do not name.
std::string type_text(uint32_t type) {
  constexpr const char* kNames[] = {"int", "uint", "float", "opaque", "bfloat", "complex"};
  const uint32_t code = type >> 24;
  if (code == dlpack::kBool) return "bool";
  if (code >= std::size(kNames)) return "another dtype";
  return kNames[code] + std::to_string(type >> 16 & 0xff);
}

bool is_tensor(PyObject* x) {
  return api != nullptr && Py_TYPE(x) == tensor_type;
}

// False if x has no dense memory.
bool read(PyObject* x, TensorView& out) {
  dlpack::Tensor t;
  if (api->view_of_object(x, &t) != 0) {
    PyErr_Clear();  // torch's text comes with a stack trace
    return false;
  }
  Array& array = out.array;
  array = {.data = static_cast<char*>(t.data) + t.byte_offset,
           .shape = t.shape,
           .stride = t.stride,
           .dim = t.dim,
           .numel = 1,
           .dtype = dtype_of(t),
           .itemsize = t.type_bits / 8,
           .device = t.device_type == dlpack::kCpu || t.device_type == dlpack::kCudaHost
                         ? DeviceType::kCpu
                     : t.device_type == dlpack::kCuda ? DeviceType::kCuda
                                                      : DeviceType::kOther,
           .device_index = t.device_type == dlpack::kCuda ? t.device_index : 0};
  for (int64_t d = 0; d < array.dim; ++d) array.numel *= array.shape[d];
  out.type = type_of(t);
  return array.data != nullptr || array.numel == 0;
}

TensorView checked_view(const char* op, const char* argument, PyObject* x) {
  if (!is_tensor(x)) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be a torch.Tensor", op, argument);
    throw PythonError();
  }
  TensorView view;
  if (!read(x, view)) {
    fail(op, ": ", argument, " must be a dense tensor on the CPU, got one that has no such memory");
  }
  MF_CHECK(view.array.device == DeviceType::kCpu, op, ": ", argument, " must be on the CPU, got ",
           device_text(view.array));
  return view;
}

void read_all(const char* op, const char* argument, PyObject* tuple, std::vector<Array>& arrays,
              std::vector<uint32_t>& types) {
  const auto count = size_t(PyTuple_Size(tuple));
  arrays.resize(count);
  types.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const TensorView view = checked_view(op, argument, PyTuple_GetItem(tuple, Py_ssize_t(i)));
    arrays[i] = view.array;
    types[i] = view.type;
  }
}

// Where a tensor's storage begins.
uint64_t storage_of(PyObject* tensor) {
  const Owned storage(PyObject_CallMethod(tensor, "untyped_storage", nullptr));
  if (storage == nullptr) throw PythonError();
  const Owned begin(PyObject_CallMethod(storage.get(), "data_ptr", nullptr));
  if (begin == nullptr) throw PythonError();
  return bits(begin.get());
}

Views look_at(const char* op, const char* argument, Owned tensors) {
  Views views;
  read_all(op, argument, tensors.get(), views.arrays, views.types);
  for (const Array& x : views.arrays) {
    views.numbers.insert(views.numbers.end(), x.shape, x.shape + x.dim);
    views.numbers.insert(views.numbers.end(), x.stride, x.stride + x.dim);
  }
  const int64_t* numbers = views.numbers.data();
  std::vector<uint64_t> storages;
  for (size_t i = 0; i < views.arrays.size(); ++i) {
    Array& x = views.arrays[i];
    x.shape = numbers;
    x.stride = numbers + x.dim;
    numbers += 2 * x.dim;
    PyObject* tensor = PyTuple_GetItem(tensors.get(), Py_ssize_t(i));
    const uint64_t storage = storage_of(tensor);
    if (std::find(storages.begin(), storages.end(), storage) != storages.end()) continue;
    storages.push_back(storage);
    views.anchors.push_back({tensor, x.data});
  }
  views.tensors = std::move(tensors);
  return views;
}

// Looks again if a storage has moved.
void refresh(const char* op, const char* argument, Views& views) {
  for (const Anchor& anchor : views.anchors) {
    TensorView now;
    if (!read(anchor.tensor, now) || now.array.data != anchor.data) {
      Py_INCREF(views.tensors.get());
      views = look_at(op, argument, Owned(views.tensors.get()));
      return;
    }
  }
}

}  // namespace

PyObject* connect(PyObject*, PyObject* type) {
  PyObject* capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
  if (capsule == nullptr) {
    PyErr_Clear();
    Py_RETURN_FALSE;
  }
  const void* table = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
  Py_DECREF(capsule);  // the class holds it, and the table is static
  if (table == nullptr) {
    PyErr_Clear();
    Py_RETURN_FALSE;
  }
  const auto* found = static_cast<const dlpack::ExchangeApi*>(table);
  if (found->major_version != dlpack::kMajorVersion) Py_RETURN_FALSE;
  api = found;
  tensor_type = reinterpret_cast<PyTypeObject*>(type);
  Py_RETURN_TRUE;
}

PyObject* views(PyObject*, PyObject* tensors) {
  return guarded([&] {
    Owned items = items_of("views", "tensors", tensors);
    auto views = std::make_unique<Views>(look_at("views", "tensors", std::move(items)));
    PyObject* capsule = PyCapsule_New(views.get(), kCapsule, release);
    if (capsule != nullptr) views.release();  // the capsule has it now
    return capsule;
  });
}

Array view(const char* op, const char* argument, PyObject* x) {
  return checked_view(op, argument, x).array;
}

std::optional<TensorView> view_if_plain(PyObject* x) {
  TensorView view;
  if (!is_tensor(x) || !read(x, view) || view.array.device != DeviceType::kCpu) return {};
  // Its memory may hold the conjugate, which DLPack does not tell.
  if (view.type >> 24 == dlpack::kComplex) return {};
  return view;
}

Owned items_of(const char* op, const char* argument, PyObject* sequence) {
  if (PyTuple_Check(sequence)) {
    Py_INCREF(sequence);
    return Owned(sequence);
  }
  if (!PyList_Check(sequence)) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be a tuple or list of tensors", op, argument);
    throw PythonError();
  }
  Owned tuple(PyList_AsTuple(sequence));
  if (tuple == nullptr) throw PythonError();
  return tuple;
}

Tensors::Tensors(const char* op, const char* argument, PyObject* x) {
  if (PyCapsule_IsValid(x, kCapsule)) {
    auto* views = static_cast<Views*>(PyCapsule_GetPointer(x, kCapsule));
    refresh(op, argument, *views);
    arrays_ = &views->arrays;
    types_ = &views->types;
  } else {
    kept_ = items_of(op, argument, x);
    read_all(op, argument, kept_.get(), own_arrays_, own_types_);
  }
}

void check_types(const char* op, const char* name, std::span<const uint32_t> batch,
                 std::span<const uint32_t> columns) {
  const size_t count = std::min(batch.size(), columns.size());
  for (size_t j = 0; j < count; ++j) {
    MF_CHECK(batch[j] == columns[j], op, ": ", name, "[", j, "] must be ", type_text(columns[j]),
             ", got ", type_text(batch[j]));
  }
}

int64_t length_of(std::span<const Array> columns) {
  return columns.empty() || columns[0].dim == 0 ? 0 : columns[0].shape[0];
}

int64_t integer(PyObject* x) {
  const int64_t value = PyLong_AsLongLong(x);
  if (value == -1 && PyErr_Occurred()) throw PythonError();
  return value;
}

uint64_t bits(PyObject* x) {
  const uint64_t value = PyLong_AsUnsignedLongLongMask(x);
  if (value == uint64_t(-1) && PyErr_Occurred()) throw PythonError();
  return value;
}

double real(PyObject* x) {
  const double value = PyFloat_AsDouble(x);
  if (value == -1 && PyErr_Occurred()) throw PythonError();
  return value;
}

void check_count(const char* op, Py_ssize_t count, Py_ssize_t expected) {
  MF_CHECK(count == expected, op, ": must be given ", expected, " arguments, got ", count);
}

Array flat(void* data, const int64_t& n, DType dtype) {
  static constexpr int64_t kOne = 1;
  const bool narrow = dtype == DType::kFloat32;
  return {data, &n, &kOne, 1, n, dtype, narrow ? 4 : 8, DeviceType::kCpu, 0};
}

PyObject* none() {
  Py_INCREF(Py_None);
  return Py_None;
}

}  // namespace machin_fast
