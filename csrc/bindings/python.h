// Between C++ and Python's limited API: references, errors, the GIL.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <exception>
#include <memory>
#include <new>
#include <stdexcept>

namespace machin_fast {

// Thrown where Python already has an error set.
struct PythonError {};

struct Release {
  void operator()(PyObject* x) const { Py_DECREF(x); }
};
using Owned = std::unique_ptr<PyObject, Release>;

// Runs body, which returns a pointer or an int, and turns its exceptions into Python's: then the
// result is `failed`.
template <typename Body, typename Result = PyObject*>
Result guarded(const Body& body, Result failed = nullptr) {
  try {
    return body();
  } catch (const PythonError&) {
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return failed;
}

// Lets other Python threads run meanwhile. The body must not touch Python objects.
template <typename Body>
auto without_gil(const Body& body) {
  struct Released {
    PyThreadState* state = PyEval_SaveThread();
    ~Released() { PyEval_RestoreThread(state); }
  } released;
  return body();
}

}  // namespace machin_fast
