#include "actor_pool/dispatcher.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "actor_pool/mapping.h"
#include "actor_pool/require.h"
#include "bindings/actor_pool/objects.h"

namespace machin_fast {
namespace {

// So often a wait looks for signals and dead workers.
constexpr auto kSlice = std::chrono::milliseconds(20);

struct Holder {
  Holder(int fd, std::vector<int32_t> owner, int64_t num_workers)
      : mapping("Dispatcher", fd, ControlBlock::size(int64_t(owner.size()), num_workers)),
        dispatcher(mapping.data(), std::move(owner), num_workers) {}

  Mapping mapping;
  Dispatcher dispatcher;
  std::atomic_flag busy;
};

// One thread's turn with an open dispatcher.
class Turn {
 public:
  Turn(const char* op, PyObject* self) : holder_(held<Holder>(self)) {
    if (holder_.busy.test_and_set()) {
      throw std::runtime_error(std::string(op) + ": another thread is within a call");
    }
    if (holder_.dispatcher.closed()) {
      holder_.busy.clear();
      throw std::runtime_error(std::string(op) + ": the pool is closed");
    }
  }
  ~Turn() { holder_.busy.clear(); }
  Turn(const Turn&) = delete;

  Dispatcher* operator->() const { return &holder_.dispatcher; }

 private:
  Holder& holder_;
};

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    int fd = 0;
    PyObject* sequence = nullptr;
    long long num_workers = 0;
    const char* names[] = {"fd", "owner", "num_workers", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, keywords, "iOL", const_cast<char**>(names), &fd,
                                    &sequence, &num_workers) == 0) {
      throw PythonError();
    }
    const Owned items(PySequence_Tuple(sequence));
    if (items == nullptr) throw PythonError();
    std::vector<int32_t> owner(size_t(PyTuple_Size(items.get())));
    for (size_t i = 0; i < owner.size(); ++i) {
      const int64_t worker = integer(PyTuple_GetItem(items.get(), Py_ssize_t(i)));
      MF_REQUIRE(worker >= Dispatcher::kParent && worker < num_workers,
                 "Dispatcher: owner must be in [-1, ", num_workers, "), got ", worker,
                 " at position ", i);
      owner[i] = int32_t(worker);
    }
    ControlBlock::check("Dispatcher", int64_t(owner.size()), num_workers);
    return make<Holder>(type, fd, std::move(owner), num_workers);
  });
}

PyObject* send(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "Dispatcher.send";
  return guarded([&] {
    check_count(op, count, 1, 1);
    const Memory ids(op, "ids", args[0], Memory::Access::kRead, "lq");
    Turn(op, self)->send({ids.as<const int64_t>(), ids.bytes() / sizeof(int64_t)});
    return none();
  });
}

PyObject* call(PyObject* self, PyObject* worker) {
  return guarded([&] {
    Turn("Dispatcher.call", self)->call(integer(worker));
    return none();
  });
}

PyObject* recv(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "Dispatcher.recv";
  return guarded([&] {
    check_count(op, count, 4, 4);
    const Memory ids(op, "ids", args[0], Memory::Access::kWrite, "lq");
    const Memory flags(op, "flags", args[1], Memory::Access::kWrite, "i");
    const int64_t wanted = integer(args[2]);
    const auto room =
        int64_t(std::min(ids.bytes() / sizeof(int64_t), flags.bytes() / sizeof(int32_t)));
    MF_REQUIRE(wanted >= 0 && wanted <= room, op, ": count must be in [0, ", room,
               "], which ids and flags have room for, got ", wanted);
    const auto until = deadline(op, args[3]);

    const Turn turn(op, self);
    while (true) {
      const auto slice = std::min(until, Clock::now() + kSlice);
      const auto outcome = without_gil([&] { return turn->wait(wanted, slice); });
      if (outcome != Dispatcher::Wait::kNothing) break;
      if (PyErr_CheckSignals() != 0) throw PythonError();
      if (Clock::now() >= until) break;
    }
    const auto n = size_t(wanted);
    return PyLong_FromLongLong(turn->take({ids.as<int64_t>(), n}, {flags.as<int32_t>(), n}));
  });
}

PyObject* watch(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    check_count("Dispatcher.watch", count, 2, 2);
    Turn("Dispatcher.watch", self)->watch(integer(args[0]), int(integer(args[1])));
    return none();
  });
}

PyObject* dead(PyObject* self, PyObject*) {
  return guarded([&] { return list_of(Turn("Dispatcher.dead", self)->dead()); });
}

PyObject* forget(PyObject* self, PyObject* worker) {
  return guarded([&] { return list_of(Turn("Dispatcher.forget", self)->forget(integer(worker))); });
}

PyObject* in_flight(PyObject* self, PyObject*) {
  return guarded([&] { return PyLong_FromLongLong(held<Holder>(self).dispatcher.in_flight()); });
}

PyObject* heartbeat_age(PyObject* self, PyObject* worker) {
  return guarded([&] {
    return PyFloat_FromDouble(held<Holder>(self).dispatcher.heartbeat_age(integer(worker)));
  });
}

PyObject* close(PyObject* self, PyObject*) {
  held<Holder>(self).dispatcher.close();
  return none();
}

PyMethodDef methods[] = {
    method("send", send, "send($self, ids, /)\n--\n\nPosts environments to their workers."),
    {"call", call, METH_O, "call($self, worker, /)\n--\n\nPosts CALL."},
    method("recv", recv,
           "recv($self, ids, flags, count, timeout, /)\n--\n\nWaits for answers and takes them."),
    method("watch", watch, "watch($self, worker, pidfd, /)\n--\n\nLets recv look at this pidfd."),
    {"dead", dead, METH_NOARGS, "dead($self, /)\n--\n\nWatched workers that have ended."},
    {"forget", forget, METH_O,
     "forget($self, worker, /)\n--\n\nEmpties a dead worker's rings; what it had in flight."},
    {"in_flight", in_flight, METH_NOARGS, "in_flight($self, /)\n--\n\nSteps sent, not received."},
    {"heartbeat_age", heartbeat_age, METH_O,
     "heartbeat_age($self, worker, /)\n--\n\nSeconds since this worker's last sign."},
    {"close", close, METH_NOARGS, "close($self, /)\n--\n\nTells all workers to end."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

bool add_dispatcher(PyObject* module) {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("Dispatcher(fd, owner, num_workers)\n--\n\nThe parent's end.")},
      {Py_tp_new, reinterpret_cast<void*>(create)},
      {Py_tp_dealloc, reinterpret_cast<void*>(destroy<Holder>)},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  return add_class(module, "machin_fast._actor_pool.Dispatcher", sizeof(Object<Holder>), slots);
}

}  // namespace machin_fast
