// The module machin_fast._actor_pool: the actor pool's engine for Python, without torch. Python's
// limited API only, as bindings/module.cpp.
#include "actor_pool/control_block.h"
#include "actor_pool/parent_death.h"
#include "bindings/actor_pool/objects.h"

namespace machin_fast {
namespace {

PyObject* control_size(PyObject*, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    long long num_envs = 0, num_workers = 0;
    const char* names[] = {"num_envs", "num_workers", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, keywords, "LL", const_cast<char**>(names), &num_envs,
                                    &num_workers) == 0) {
      throw PythonError();
    }
    ControlBlock::check("control_size", num_envs, num_workers);
    return PyLong_FromSize_t(ControlBlock::size(num_envs, num_workers));
  });
}

PyObject* end_with_parent(PyObject*, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    int fd = 0, killed_with_starter = 0;
    const char* names[] = {"fd", "killed_with_starter", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, keywords, "i|p", const_cast<char**>(names), &fd,
                                    &killed_with_starter) == 0) {
      throw PythonError();
    }
    exit_with_parent(fd, killed_with_starter != 0);
    return none();
  });
}

PyCFunction with_keywords(PyCFunctionWithKeywords function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"control_size", with_keywords(control_size), METH_VARARGS | METH_KEYWORDS,
     "control_size(num_envs, num_workers)\n--\n\nBytes of the control block."},
    {"exit_with_parent", with_keywords(end_with_parent), METH_VARARGS | METH_KEYWORDS,
     "exit_with_parent(fd, killed_with_starter=False)\n--\n\nEnds this process with its parent."},
    {nullptr, nullptr, 0, nullptr},
};

int fill(PyObject* module) {
  const bool good = add_dispatcher(module) && add_inbox(module) && add_versioned_block(module) &&
                    PyModule_AddIntConstant(module, "CALL", kCall) == 0;
  return good ? 0 : -1;
}

PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(fill)}, {0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_actor_pool",
                          "Rings and wake-ups in shared memory.",
                          0,
                          methods,
                          slots,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace
}  // namespace machin_fast

PyMODINIT_FUNC PyInit__actor_pool() {
  return PyModuleDef_Init(&machin_fast::definition);
}
