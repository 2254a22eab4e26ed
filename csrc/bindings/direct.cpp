#include "bindings/direct.h"

#include <stdexcept>
#include <vector>

#include "bindings/dlpack.h"
#include "core/check.h"
#include "ops/gather_rows.h"
#include "ops/sum_tree.h"
#include "ops/write_rows.h"

namespace machin_fast {
namespace {

const dlpack::ExchangeApi* api = nullptr;
PyTypeObject* tensor_type = nullptr;

// Thrown where Python already has an error set.
struct PythonError {};

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

// The view of a tensor. Subclasses may be anything, so they are not taken.
Array view(const char* op, const char* argument, PyObject* x) {
  if (api == nullptr || Py_TYPE(x) != tensor_type) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be a torch.Tensor", op, argument);
    throw PythonError();
  }
  dlpack::Tensor t;
  if (api->view_of_object(x, &t) != 0) {
    PyErr_Clear();  // torch's text comes with a stack trace
    fail(op, ": ", argument, " must be a dense tensor on the CPU, got one that has no such memory");
  }
  Array array = {.data = static_cast<char*>(t.data) + t.byte_offset,
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
  MF_CHECK(array.device == DeviceType::kCpu, op, ": ", argument, " must be on the CPU, got ",
           device_text(array));
  return array;
}

std::vector<Array> views(const char* op, const char* argument, PyObject* sequence) {
  const bool tuple = PyTuple_Check(sequence);
  if (!tuple && !PyList_Check(sequence)) {
    PyErr_Format(PyExc_TypeError, "%s: %s must be a tuple or list of tensors", op, argument);
    throw PythonError();
  }
  const Py_ssize_t count = tuple ? PyTuple_Size(sequence) : PyList_Size(sequence);
  std::vector<Array> arrays;
  arrays.reserve(size_t(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = tuple ? PyTuple_GetItem(sequence, i) : PyList_GetItem(sequence, i);
    arrays.push_back(view(op, argument, item));
  }
  return arrays;
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

void check_count(const char* op, Py_ssize_t count, Py_ssize_t expected) {
  MF_CHECK(count == expected, op, ": must be given ", expected, " arguments, got ", count);
}

// Runs body and turns its exceptions into Python's.
template <typename Body>
PyObject* guarded(const Body& body) {
  try {
    return body();
  } catch (const PythonError&) {
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// Lets other Python threads run meanwhile, if it is worth it.
template <typename Body>
void without_gil(int64_t work, const Body& body) {
  constexpr int64_t kWorthIt = 1024;
  if (work < kWorthIt) return body();
  struct Released {
    PyThreadState* state = PyEval_SaveThread();
    ~Released() { PyEval_RestoreThread(state); }
  } released;
  body();
}

PyObject* none() {
  Py_INCREF(Py_None);
  return Py_None;
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

PyObject* direct_sum_tree_update(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_update_";
  return guarded([&] {
    check_count(op, count, 4);
    const Array nodes = view(op, "nodes", args[0]);
    if (PyLong_Check(args[1])) {
      int64_t one = 1;
      int64_t index = integer(args[1]);
      double weight = PyFloat_AsDouble(args[2]);
      if (weight == -1 && PyErr_Occurred()) throw PythonError();
      float narrow = float(weight);
      const bool wide = nodes.dtype == DType::kFloat64;
      const Array i = {&index, &one, &one, 1, 1, DType::kInt64, 8, DeviceType::kCpu, 0};
      const Array w = {wide ? static_cast<void*>(&weight) : &narrow,
                       &one,
                       &one,
                       1,
                       1,
                       nodes.dtype,
                       nodes.itemsize,
                       DeviceType::kCpu,
                       0};
      sum_tree_update_cpu(nodes, i, w, integer(args[3]));
      return none();
    }
    const Array index = view(op, "index", args[1]);
    const Array weight = view(op, "weight", args[2]);
    const int64_t capacity = integer(args[3]);
    without_gil(index.numel, [&] { sum_tree_update_cpu(nodes, index, weight, capacity); });
    return none();
  });
}

PyObject* direct_sum_tree_sample(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_sample";
  return guarded([&] {
    check_count(op, count, 8);
    const Array nodes = view(op, "nodes", args[0]);
    const uint64_t seed = seed_of_call(bits(args[1]), bits(args[2]));
    const int64_t capacity = integer(args[3]);
    const bool stratified = args[4] == Py_True;
    const Array index = view(op, "index", args[5]);
    const Array weight = view(op, "weight", args[6]);
    const Array probability = view(op, "probability", args[7]);
    without_gil(index.numel, [&] {
      sum_tree_sample_cpu(nodes, seed, capacity, stratified, index, weight, probability);
    });
    return none();
  });
}

PyObject* direct_seed_of_call(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    check_count("seed_of_call", count, 2);
    return PyLong_FromLongLong(int64_t(seed_of_call(bits(args[0]), bits(args[1]))));
  });
}

PyObject* direct_sum_tree_summary(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_summary";
  return guarded([&] {
    check_count(op, count, 2);
    const SumTreeSummary summary =
        sum_tree_summary_cpu(view(op, "nodes", args[0]), integer(args[1]));
    return Py_BuildValue("dd", summary.total, summary.minimum);
  });
}

PyObject* direct_gather_rows(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "gather_rows";
  return guarded([&] {
    check_count(op, count, 3);
    const std::vector<Array> columns = views(op, "columns", args[0]);
    const Array index = view(op, "index", args[1]);
    const std::vector<Array> out = views(op, "out", args[2]);
    without_gil(index.numel, [&] { gather_rows_cpu(columns, index, true, out); });
    return none();
  });
}

PyObject* direct_write_rows(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "write_rows_";
  return guarded([&] {
    check_count(op, count, 3);
    const std::vector<Array> columns = views(op, "columns", args[0]);
    const std::vector<Array> rows = views(op, "rows", args[1]);
    const int64_t start = integer(args[2]);
    const int64_t work = rows.empty() || rows[0].dim == 0 ? 0 : rows[0].shape[0];
    without_gil(work, [&] { write_rows_cpu(columns, rows, start); });
    return none();
  });
}

}  // namespace machin_fast
