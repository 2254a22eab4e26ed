// The Python module behind machin_fast._extension. Importing it registers the torch ops; what it
// offers itself are facts about the build and the direct calls (direct.h). Python's limited API
// only, so that one binary serves every Python from 3.10 on.
#include "bindings/arguments.h"
#include "bindings/direct.h"
#include "bindings/replay.h"
#include "core/isa.h"

namespace {

// {str: str | None}, what machin_fast.build_info() shows of the library.
PyObject* facts(PyObject*, PyObject*) {
  return Py_BuildValue("{s:s,s:s,s:s,s:s,s:z,s:s}", "version", MF_VERSION, "torch_built_with",
                       MF_TORCH_BUILT, "torch_least", MF_TORCH_LEAST, "cpu_instruction_set",
                       machin_fast::isa_name(machin_fast::cpu_isa()), "cuda",
#ifdef MF_CUDA_VERSION
                       MF_CUDA_VERSION,
#else
                       nullptr,
#endif
                       "cuda_reason", MF_CUDA_REASON);
}

using FastCall = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

PyMethodDef direct(const char* name, FastCall function) {
  // By way of void (*)(), which every function pointer may pass through.
  const auto method = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
  return {name, method, METH_FASTCALL, "A direct call, see csrc/bindings/direct.h."};
}

PyMethodDef methods[] = {
    {"facts", facts, METH_NOARGS, "How this library was built and what it uses."},
    {"connect", machin_fast::connect, METH_O, "connect(torch.Tensor): are direct calls possible?"},
    {"views", machin_fast::views, METH_O, "views(tensors): a capsule that stands for them."},
    direct("gather_rows", machin_fast::direct_gather_rows),
    direct("write_rows", machin_fast::direct_write_rows),
    direct("native_envs_step", machin_fast::direct_native_envs_step),
    direct("sum_tree_update", machin_fast::direct_sum_tree_update),
    direct("sum_tree_sample", machin_fast::direct_sum_tree_sample),
    direct("seed_of_call", machin_fast::direct_seed_of_call),
    direct("sum_tree_summary", machin_fast::direct_sum_tree_summary),
    direct("replay_appender", machin_fast::replay_appender),
    direct("replay_sample", machin_fast::replay_sample),
    direct("replay_update", machin_fast::replay_update),
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
