#include "actor_pool/inbox.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "actor_pool/mapping.h"
#include "actor_pool/require.h"
#include "bindings/actor_pool/objects.h"

namespace machin_fast {
namespace {

// So often an idle worker looks for signals that came just before it slept.
constexpr auto kSlice = std::chrono::seconds(1);

struct Holder {
  Holder(int fd, int64_t num_envs, int64_t num_workers, int64_t worker)
      : mapping("Inbox", fd, ControlBlock::size(num_envs, num_workers)),
        inbox(mapping.data(), num_envs, num_workers, worker) {}

  Mapping mapping;
  Inbox inbox;
};

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    int fd = 0;
    long long num_envs = 0, num_workers = 0, worker = 0;
    const char* names[] = {"fd", "num_envs", "num_workers", "worker", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, keywords, "iLLL", const_cast<char**>(names), &fd,
                                    &num_envs, &num_workers, &worker) == 0) {
      throw PythonError();
    }
    ControlBlock::check("Inbox", num_envs, num_workers);
    return make<Holder>(type, fd, num_envs, num_workers, worker);
  });
}

PyObject* take(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "Inbox.take";
  return guarded([&] {
    check_count(op, count, 0, 1);
    const auto until = deadline(op, count == 0 ? Py_None : args[0]);
    Inbox& inbox = held<Holder>(self).inbox;
    while (true) {
      const auto slice = std::min(until, Clock::now() + kSlice);
      switch (without_gil([&] { return inbox.wait(slice); })) {
        case Inbox::Wait::kClosed:
          return none();
        case Inbox::Wait::kReady:
          return list_of(inbox.take());
        case Inbox::Wait::kNothing:
          break;
      }
      if (PyErr_CheckSignals() != 0) throw PythonError();
      if (Clock::now() >= until) return PyList_New(0);
    }
  });
}

PyObject* done(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "Inbox.done";
  return guarded([&] {
    check_count(op, count, 1, 2);
    const int64_t flag = count == 1 ? 0 : integer(args[1]);
    using Limits = std::numeric_limits<int32_t>;
    MF_REQUIRE(flag >= Limits::min() && flag <= Limits::max(), op, ": flag must be an int32, got ",
               flag);
    held<Holder>(self).inbox.done(integer(args[0]), int32_t(flag));
    return none();
  });
}

PyMethodDef methods[] = {
    method("take", take, "take($self, timeout=None, /)\n--\n\nWaits for posts and takes them."),
    method("done", done, "done($self, env, flag=0, /)\n--\n\nAnswers one environment."),
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

bool add_inbox(PyObject* module) {
  PyType_Slot slots[] = {
      {Py_tp_doc,
       const_cast<char*>("Inbox(fd, num_envs, num_workers, worker)\n--\n\nA worker's end.")},
      {Py_tp_new, reinterpret_cast<void*>(create)},
      {Py_tp_dealloc, reinterpret_cast<void*>(destroy<Holder>)},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  return add_class(module, "machin_fast._actor_pool.Inbox", sizeof(Object<Holder>), slots);
}

}  // namespace machin_fast
