#include "actor_pool/versioned_block.h"

#include "actor_pool/mapping.h"
#include "actor_pool/require.h"
#include "bindings/actor_pool/objects.h"

namespace machin_fast {
namespace {

struct Holder {
  Holder(int fd, size_t size)
      : mapping("VersionedBlock", fd, VersionedBlock::bytes_needed(size)),
        block(mapping.data(), size) {}

  Mapping mapping;
  VersionedBlock block;
};

size_t checked_size(const char* op, int64_t size) {
  constexpr int64_t kMost = int64_t(1) << 46;
  MF_REQUIRE(size >= 0 && size <= kMost, op, ": size must be in [0, ", kMost, "], got ", size);
  return size_t(size);
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  return guarded([&] {
    int fd = 0;
    long long size = 0;
    const char* names[] = {"fd", "size", nullptr};
    if (PyArg_ParseTupleAndKeywords(args, keywords, "iL", const_cast<char**>(names), &fd, &size) ==
        0) {
      throw PythonError();
    }
    return make<Holder>(type, fd, checked_size("VersionedBlock", size));
  });
}

PyObject* bytes_needed(PyObject*, PyObject* size) {
  return guarded([&] {
    const size_t checked = checked_size("VersionedBlock.bytes_needed", integer(size));
    return PyLong_FromSize_t(VersionedBlock::bytes_needed(checked));
  });
}

Memory block_memory(const char* op, const char* argument, PyObject* x, Memory::Access access,
                    size_t size) {
  Memory memory(op, argument, x, access, "");
  MF_REQUIRE(memory.bytes() == size, op, ": ", argument, " must be of ", size, " bytes, got ",
             memory.bytes());
  return memory;
}

PyObject* publish(PyObject* self, PyObject* data) {
  return guarded([&] {
    VersionedBlock& block = held<Holder>(self).block;
    const Memory memory =
        block_memory("VersionedBlock.publish", "data", data, Memory::Access::kRead, block.size());
    const uint64_t version =
        without_gil([&] { return block.publish(memory.as<const std::byte>()); });
    return PyLong_FromUnsignedLongLong(version);
  });
}

PyObject* read(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "VersionedBlock.read";
  return guarded([&] {
    check_count(op, count, 1, 2);
    const VersionedBlock& block = held<Holder>(self).block;
    const Memory into = block_memory(op, "into", args[0], Memory::Access::kWrite, block.size());
    const int64_t newer_than = count == 1 ? 0 : integer(args[1]);
    MF_REQUIRE(newer_than >= 0, op, ": newer_than must not be negative, got ", newer_than);
    const uint64_t version =
        without_gil([&] { return block.read(into.as<std::byte>(), uint64_t(newer_than)); });
    return PyLong_FromUnsignedLongLong(version);
  });
}

PyObject* version(PyObject* self, void*) {
  return PyLong_FromUnsignedLongLong(held<Holder>(self).block.version());
}

PyMethodDef methods[] = {
    {"bytes_needed", bytes_needed, METH_O | METH_STATIC,
     "bytes_needed(size, /)\n--\n\nBytes of memory for a block of so many bytes."},
    {"publish", publish, METH_O, "publish($self, data, /)\n--\n\nCopies in; the new version."},
    method("read", read,
           "read($self, into, newer_than=0, /)\n--\n\nCopies the newest version out."),
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"version", version, nullptr, "Of the newest whole publication.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace

bool add_versioned_block(PyObject* module) {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("VersionedBlock(fd, size)\n--\n\nBytes that are published.")},
      {Py_tp_new, reinterpret_cast<void*>(create)},
      {Py_tp_dealloc, reinterpret_cast<void*>(destroy<Holder>)},
      {Py_tp_methods, methods},
      {Py_tp_getset, properties},
      {0, nullptr},
  };
  return add_class(module, "machin_fast._actor_pool.VersionedBlock", sizeof(Object<Holder>), slots);
}

}  // namespace machin_fast
