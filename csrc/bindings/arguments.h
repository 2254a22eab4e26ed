// What Python hands to the direct calls, as C++ sees it. All of this needs the GIL, but the body of
// without_gil.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "bindings/python.h"
#include "core/array.h"
#include "core/check.h"

namespace machin_fast {

// connect(torch.Tensor) -> bool: whether this torch hands out DLPack's C functions.
PyObject* connect(PyObject* module, PyObject* tensor_type);
// views(tensors) -> capsule, which holds tensors on the CPU and stands for a tuple or list of them
// wherever one is asked for, and saves looking at each. Only whether a storage has moved is asked
// at each call, as it does when another process gets it: then all are looked at again.
PyObject* views(PyObject* module, PyObject* tensors);

// A tensor, and its dtype by DLPack's number: DType does not tell all of them apart.
struct TensorView {
  Array array;
  uint32_t type;
};

// Subclasses may be anything, so they are no tensors here. A view is good while the tensor lives.
Array view(const char* op, const char* argument, PyObject* x);
// Nothing if x is no tensor with memory on the CPU, or one that must be converted before use.
std::optional<TensorView> view_if_plain(PyObject* x);

// The tensors of a tuple, a list or a capsule of `views`.
class Tensors {
 public:
  Tensors(const char* op, const char* argument, PyObject* x);
  Tensors(const Tensors&) = delete;

  std::span<const Array> arrays() const { return *arrays_; }
  std::span<const uint32_t> types() const { return *types_; }

 private:
  Owned kept_;  // a list may lose its tensors while the GIL is away
  std::vector<Array> own_arrays_;
  std::vector<uint32_t> own_types_;
  const std::vector<Array>* arrays_ = &own_arrays_;
  const std::vector<uint32_t>* types_ = &own_types_;
};

// The items of a tuple or list, as a tuple.
Owned items_of(const char* op, const char* argument, PyObject* sequence);

// That each of `batch` has the very dtype of its column.
void check_types(const char* op, const char* name, std::span<const uint32_t> batch,
                 std::span<const uint32_t> columns);

// Rows of the first one, 0 if there are none.
int64_t length_of(std::span<const Array> columns);

int64_t integer(PyObject* x);
uint64_t bits(PyObject* x);  // the low 64 of an int
double real(PyObject* x);

void check_count(const char* op, Py_ssize_t count, Py_ssize_t expected);

// [n], in memory that lives as long as `n`.
Array flat(void* data, const int64_t& n, DType dtype);

PyObject* none();

// Lets other Python threads run meanwhile, if it is worth it.
template <typename Body>
void without_gil(int64_t work, const Body& body) {
  constexpr int64_t kWorthIt = 1024;
  if (work < kWorthIt) return body();
  without_gil(body);
}

}  // namespace machin_fast
