#include "bindings/actor_pool/objects.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "actor_pool/require.h"

namespace machin_fast {
namespace {

bool has_format(PyObject* view, const char* formats) {
  if (*formats == '\0') return true;
  const Owned format(PyObject_GetAttrString(view, "format"));
  if (format == nullptr) throw PythonError();
  Py_ssize_t length = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(format.get(), &length);
  if (text == nullptr) throw PythonError();
  return length == 1 && std::strchr(formats, *text) != nullptr;
}

std::string type_name(PyObject* x) {
  const Owned name(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(x)), "__name__"));
  const char* const text = name == nullptr ? nullptr : PyUnicode_AsUTF8AndSize(name.get(), nullptr);
  if (text != nullptr) return text;
  PyErr_Clear();
  return "another object";
}

}  // namespace

bool add_class(PyObject* module, const char* name, size_t size, PyType_Slot* slots) {
  PyType_Spec spec{.name = name,
                   .basicsize = int(size),
                   .itemsize = 0,
                   .flags = Py_TPFLAGS_DEFAULT,
                   .slots = slots};
  const Owned type(PyType_FromSpec(&spec));
  const char* const short_name = std::strrchr(name, '.') + 1;
  return type != nullptr && PyModule_AddObjectRef(module, short_name, type.get()) == 0;
}

void check_count(const char* op, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most) {
  if (count >= least && count <= most) return;
  PyErr_Format(PyExc_TypeError, "%s: must be given %zd to %zd arguments, got %zd", op, least, most,
               count);
  throw PythonError();
}

int64_t integer(PyObject* x) {
  const long long value = PyLong_AsLongLong(x);
  if (value == -1 && PyErr_Occurred() != nullptr) throw PythonError();
  return value;
}

Clock::time_point deadline(const char* op, PyObject* timeout) {
  if (timeout == Py_None) return Clock::time_point::max();
  const double seconds = PyFloat_AsDouble(timeout);
  if (seconds == -1 && PyErr_Occurred() != nullptr) throw PythonError();
  MF_REQUIRE(seconds >= 0, op, ": timeout must be None or not negative, got ", seconds);
  constexpr double kCenturies = 1e10;
  if (seconds > kCenturies) return Clock::time_point::max();
  return Clock::now() + std::chrono::nanoseconds(std::llround(seconds * 1e9));
}

PyObject* none() {
  Py_INCREF(Py_None);
  return Py_None;
}

Memory::Memory(const char* op, const char* argument, PyObject* x, Access access,
               const char* formats)
    : view_(PyMemoryView_FromObject(x)) {
  if (view_ == nullptr) throw PythonError();
  MF_REQUIRE(has_format(view_.get(), formats), op, ": ", argument,
             " must be a buffer of one of the formats ", formats, ", got ", type_name(x),
             " of another");
  Py_ssize_t bytes = 0;
  int failed = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  // All that the limited API of 3.10 has; deprecated because they do not hold the memory, but the
  // view does.
  if (access == Access::kWrite) {
    failed = PyObject_AsWriteBuffer(view_.get(), &data_, &bytes);
  } else {
    const void* data = nullptr;
    failed = PyObject_AsReadBuffer(view_.get(), &data, &bytes);
    data_ = const_cast<void*>(data);
  }
#pragma GCC diagnostic pop
  if (failed != 0) {
    PyErr_Clear();
    refuse(op, ": ", argument, " must be contiguous",
           access == Access::kWrite ? " and writable" : "", ", got ", type_name(x), " that is not");
  }
  bytes_ = size_t(bytes);
}

}  // namespace machin_fast
