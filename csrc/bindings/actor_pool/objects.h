// What the module's classes have in common: a C++ object in a Python one, and their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "actor_pool/futex.h"
#include "bindings/python.h"

namespace machin_fast {

// A Python object that holds a T.
template <typename T>
struct Object {
  PyObject_HEAD T* held;
};

template <typename T>
T& held(PyObject* self) {
  return *reinterpret_cast<Object<T>*>(self)->held;
}

template <typename T, typename... Args>
PyObject* make(PyTypeObject* type, Args&&... args) {
  T* const thing = new T(std::forward<Args>(args)...);
  const auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
  PyObject* const self = allocate(type, 0);
  if (self == nullptr) {
    delete thing;
    throw PythonError();
  }
  reinterpret_cast<Object<T>*>(self)->held = thing;
  return self;
}

template <typename T>
void destroy(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  delete reinterpret_cast<Object<T>*>(self)->held;
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

using FastCall = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

inline PyMethodDef method(const char* name, FastCall function, const char* doc) {
  // By way of void (*)(), which every function pointer may pass through.
  const auto plain = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
  return {name, plain, METH_FASTCALL, doc};
}

// Adds a class of the given slots to the module; false with an error set.
bool add_class(PyObject* module, const char* name, size_t size, PyType_Slot* slots);
bool add_dispatcher(PyObject* module);
bool add_inbox(PyObject* module);
bool add_versioned_block(PyObject* module);

void check_count(const char* op, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most);
int64_t integer(PyObject* x);
// Seconds from now, or None for ever.
Clock::time_point deadline(const char* op, PyObject* timeout);
PyObject* none();
PyObject* list_of(const auto& numbers) {
  Owned list(PyList_New(Py_ssize_t(numbers.size())));
  if (list == nullptr) throw PythonError();
  Py_ssize_t i = 0;
  for (const auto number : numbers) {
    PyObject* const item = PyLong_FromLongLong(number);
    if (item == nullptr) throw PythonError();
    PyList_SetItem(list.get(), i++, item);
  }
  return list.release();
}

// Contiguous memory of a Python object, which cannot move while this lives. (Py_buffer came into
// the limited API with 3.11 only.)
class Memory {
 public:
  enum class Access { kRead, kWrite };
  // `formats`: the letters of the struct module that will do, "" for any.
  Memory(const char* op, const char* argument, PyObject* x, Access access, const char* formats);

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  Owned view_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace machin_fast
