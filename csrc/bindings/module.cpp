// The Python module behind machin_fast._extension. Importing it registers the torch ops; what it
// offers itself are facts about the build and the direct calls (direct.h). Python's limited API
// only, so that one binary serves every Python from 3.10 on.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/isa.h"

namespace {

// {str: str | None}, what machin_fast.build_info() shows of the library.
PyObject* facts(PyObject*, PyObject*) {
  return Py_BuildValue("{s:s,s:s,s:s,s:z,s:s}", "torch_built_with", MF_TORCH_BUILT, "torch_least",
                       MF_TORCH_LEAST, "cpu_instruction_set",
                       machin_fast::isa_name(machin_fast::cpu_isa()), "cuda",
#ifdef MF_CUDA_VERSION
                       MF_CUDA_VERSION,
#else
                       nullptr,
#endif
                       "cuda_reason", MF_CUDA_REASON);
}

PyMethodDef methods[] = {
    {"facts", facts, METH_NOARGS, "How this library was built and what it uses."},
    {nullptr, nullptr, 0, nullptr},
};

#define MF_TEXT_(x) #x
#define MF_TEXT(x) MF_TEXT_(x)
#define MF_JOIN_(a, b) a##b
#define MF_JOIN(a, b) MF_JOIN_(a, b)

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          MF_TEXT(MF_MODULE),
                          nullptr,
                          -1,
                          methods,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC MF_JOIN(PyInit_, MF_MODULE)() {
  return PyModule_Create(&definition);
}
