#include "bindings/replay.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bindings/arguments.h"
#include "core/span.h"
#include "ops/columns.h"
#include "ops/gather_rows.h"
#include "ops/sum_tree.h"
#include "ops/tensor.h"
#include "ops/write_rows.h"

namespace machin_fast {
namespace {

constexpr const char* kAppend = "Replay.append";
constexpr const char* kSample = "Replay.sample";
constexpr const char* kUpdate = "Replay.update_priority";

// Memory of this thread that is kept between calls; `kUse` tells that of one type apart.
template <typename T, int kUse = 0>
T* scratch(int64_t n) {
  thread_local std::vector<T> memory;
  if (int64_t(memory.size()) < n) memory.resize(size_t(n));
  return memory.data();
}

void check_rows(const char* op, int64_t capacity, int64_t oldest, int64_t appended) {
  MF_CHECK(oldest >= 0 && oldest <= appended, op, ": oldest must be in [0, ", appended, "], got ",
           oldest);
  MF_CHECK(appended - oldest <= capacity, op, ": appended must be at most oldest + ", capacity,
           ", got ", appended, " with oldest ", oldest);
}

}  // namespace

// -- replay_appender ----------------------------------------------------------------------------

namespace {

constexpr const char* kAppender = "machin_fast.appender";
// Places in the counters (machin_fast/data/counters.py).
constexpr int kAppended = 2, kOldest = 3, kCounters = 5;

// Where the masses of new rows go, and what they are.
struct Entry {
  Array nodes;
  SumTreeLayout layout;
  const double* largest;  // priority
  double alpha, epsilon;

  double mass() const { return std::pow(*largest + epsilon, alpha); }
};

// What an append needs to know of its replay. Counters and tree are read where they were at first:
// to ask torch for that takes 60 ns a tensor (measured). Columns may move, as users have views.
struct Appender {
  Owned kept;  // what the others belong to
  PyObject *names, *columns;
  int64_t capacity = 0;
  int64_t* counters = nullptr;
  std::optional<Entry> entry = {};
};

Appender appender_of(PyObject* const* args) {
  Appender a{.kept = Owned(PyTuple_Pack(5, args[0], args[1], args[2], args[3], args[4])),
             .names = args[0],
             .columns = args[1]};
  if (a.kept == nullptr) throw PythonError();
  const Tensors columns(kAppend, "columns", a.columns);
  check_columns(kAppend, columns.arrays());
  a.capacity = length_of(columns.arrays());
  MF_CHECK(a.capacity > 0, kAppend, ": columns must have at least 1 row, got 0");
  const auto count = Py_ssize_t(columns.arrays().size());
  bool named = PyTuple_Check(a.names) && PyTuple_Size(a.names) == count;
  for (Py_ssize_t j = 0; named && j < count; ++j) {
    named = PyUnicode_Check(PyTuple_GetItem(a.names, j));
  }
  MF_CHECK(named, kAppend, ": names must be a tuple of ", count, " str, got something else");
  const int64_t words = kCounters, one = 1;
  const Array counters = view(kAppend, "counters", args[2]);
  check_out(kAppend, "counters", counters, flat(nullptr, words, DType::kInt64), DType::kInt64);
  a.counters = counters.as<int64_t>();
  if (args[3] == Py_None) return a;

  const Array nodes = view(kAppend, "nodes", args[3]), largest = view(kAppend, "largest", args[4]);
  check_out(kAppend, "largest", largest, flat(nullptr, one, DType::kFloat64), DType::kFloat64);
  a.entry = {.nodes = nodes,
             .layout = check_sum_tree(kAppend, nodes, a.capacity),
             .largest = largest.as<const double>(),
             .alpha = real(args[5]),
             .epsilon = real(args[6])};
  return a;
}

// Reads the rows for each column; false if they cannot be written as they are.
bool read_rows(const Appender& a, PyObject* dict, const Tensors& columns,
               std::vector<Array>& rows) {
  const std::span<const Array> to = columns.arrays();
  if (!PyDict_Check(dict) || PyDict_Size(dict) != Py_ssize_t(to.size())) return false;
  rows.reserve(to.size());
  for (size_t j = 0; j < to.size(); ++j) {
    PyObject* x = PyDict_GetItemWithError(dict, PyTuple_GetItem(a.names, Py_ssize_t(j)));
    if (x == nullptr && PyErr_Occurred()) throw PythonError();
    const std::optional<TensorView> view = x ? view_if_plain(x) : std::nullopt;
    if (!view || view->type != columns.types()[j]) return false;
    rows.push_back(view->array);
    const Array& row = rows.back();
    if (!same_row_shape(row, to[j]) || row.shape[0] != rows[0].shape[0]) return false;
    if (!is_contiguous(row)) return false;
  }
  for (const Array& column : to) {
    const Span written = span_of(column);
    for (const Array& x : rows) {
      const auto* read = x.as<const char>();  // without gaps
      if (overlap({read, read + x.numel * x.itemsize}, written)) return false;
    }
  }
  return length_of(rows) <= a.capacity;
}

// The next rows most likely go right behind these: their memory is fetched while the caller makes
// them (0.1 us of 1.5 for 64 rows, measured).
void fetch_ahead(const Array& column, int64_t slot, int64_t n) {
#if defined(__GNUC__)
  const int64_t row = column.stride[0] * column.itemsize;  // of a record, where columns share one
  const int64_t bytes = std::min<int64_t>(n * row, 1 << 12);
  const char* begin = column.as<const char>() + slot * row;
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(begin + at, /*write=*/1);
#endif
}

bool append(const Appender& a, PyObject* dict) {
  const Tensors columns(kAppend, "columns", a.columns);
  check_columns(kAppend, columns.arrays());  // whoever has them may have changed them
  if (length_of(columns.arrays()) != a.capacity) return false;
  const int64_t appended = a.counters[kAppended];
  check_rows(kAppend, a.capacity, a.counters[kOldest], appended);
  std::vector<Array> rows;
  if (!read_rows(a, dict, columns, rows)) return false;
  const double mass = a.entry ? a.entry->mass() : 0;
  if (a.entry) check_weight(kAppend, a.entry->nodes, a.entry->layout, mass);

  const int64_t n = length_of(rows), first = appended % a.capacity;
  const std::vector<RowColumn> copies = row_columns(columns.arrays(), rows);
  const WriteRows write = {.columns = copies.data(),
                           .count = int64_t(copies.size()),
                           .rows = a.capacity,
                           .start = first,
                           .n = n};
  without_gil(n, [&] {
    write_rows_cpu(write);
    if (!a.entry) return;
    const int64_t head = std::min(n, a.capacity - first);
    sum_tree_fill_cpu(a.entry->nodes, a.entry->layout, first, head, mass);
    sum_tree_fill_cpu(a.entry->nodes, a.entry->layout, 0, n - head, mass);
  });
  a.counters[kAppended] = appended + n;
  a.counters[kOldest] = std::max(a.counters[kOldest], appended + n - a.capacity);
  fetch_ahead(columns.arrays()[0], (first + n) % a.capacity, std::min(n, a.capacity - first - n));
  return true;
}

PyObject* call_append(PyObject* self, PyObject* rows) {
  return guarded([&] {
    const auto* appender = static_cast<const Appender*>(PyCapsule_GetPointer(self, kAppender));
    bool done = false;
    try {
      done = append(*appender, rows);
    } catch (const std::runtime_error&) {  // the caller's long way tells what is wrong
    }
    return PyBool_FromLong(done);
  });
}

void release(PyObject* capsule) {
  delete static_cast<Appender*>(PyCapsule_GetPointer(capsule, kAppender));
}

}  // namespace

PyObject* replay_appender(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    check_count("replay_appender", count, 7);
    static PyMethodDef method = {"append", call_append, METH_O, "append(rows) -> bool"};
    auto appender = std::make_unique<Appender>(appender_of(args));
    const Owned capsule(PyCapsule_New(appender.get(), kAppender, release));
    if (capsule == nullptr) return nullptr;
    appender.release();  // the capsule has it now
    return PyCFunction_New(&method, capsule.get());
  });
}

// -- replay_sample ------------------------------------------------------------------------------

namespace {

// The record that the first column is a field of.
RowsAhead record_of(std::span<const Array> columns) {
  const auto* begin = columns[0].as<const char>();
  const char* end = begin + row_bytes(columns[0]);
  const int64_t stride = columns[0].stride[0] * columns[0].itemsize;
  for (const Array& x : columns) {
    if (x.dim == 0 || x.stride[0] * x.itemsize != stride) continue;
    const auto* field = x.as<const char>();
    const char* first = std::min(begin, field);
    const char* last = std::max(end, field + row_bytes(x));
    if (last - first <= stride) begin = first, end = last;
  }
  return {begin, stride, end - begin};
}

// Slots from the tree, and what follows from them.
void draw_from_tree(const Array& nodes, int64_t capacity, uint64_t seed, int64_t appended,
                    double beta, const RowsAhead& ahead, const Array& slot, const Array& index,
                    const Array& weight, const Array& mass) {
  const double least = sum_tree_summary_cpu(nodes, capacity).minimum;
  MF_CHECK(!std::isnan(least), kSample,
           ": nodes must keep the least weight, got a tree that does not. Make it with "
           "minimum=True");
  sum_tree_sample_cpu(nodes, seed, capacity, /*stratified=*/true, slot, mass, nullptr, ahead);
  const int64_t n = slot.numel;
  const int64_t head = appended % capacity;  // the slot of the next row
  const int64_t turn = appended - head;
  const auto* from = slot.as<const int64_t>();
  auto* to = index.as<int64_t>();
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] + turn - (from[i] < head ? 0 : capacity);
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    MF_CALL_ISA(importance_weights(mass.as<const N>(), n, least, beta, weight.as<float>()));
  });
}

void draw_uniformly(int64_t capacity, uint64_t seed, int64_t oldest, int64_t appended,
                    const Array& slot, const Array& index, const Array& weight) {
  MF_CALL_ISA(uniform_rows(seed, oldest, appended - oldest, capacity, slot.numel,
                           index.as<int64_t>(), slot.as<int64_t>()));
  std::fill_n(weight.as<float>(), slot.numel, 1.0f);
}

}  // namespace

PyObject* replay_sample(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    check_count("replay_sample", count, 8);
    const bool has_tree = args[2] != Py_None;
    const uint64_t seed = seed_of_call(bits(args[3]), bits(args[4]));
    const int64_t oldest = integer(args[5]), appended = integer(args[6]);
    const double beta = real(args[7]);
    const Tensors columns("gather_rows", "columns", args[0]);
    const Tensors batch(kSample, "batch", args[1]);
    constexpr size_t kOwn = 4;
    MF_CHECK(batch.arrays().size() >= kOwn, kSample,
             ": batch must have slot, index, weight, mass and the columns, got ",
             batch.arrays().size(), " tensors");
    const Array &slot = batch.arrays()[0], &index = batch.arrays()[1];
    const Array &weight = batch.arrays()[2], &mass = batch.arrays()[3];
    const std::span<const Array> out = batch.arrays().subspan(kOwn);
    check_dim(kSample, "slot", slot, 1, "[n]");
    check_out(kSample, "slot", slot, slot, DType::kInt64);
    check_out(kSample, "index", index, slot, DType::kInt64);
    check_out(kSample, "weight", weight, slot, DType::kFloat32);
    check_types("gather_rows", "out", batch.types().subspan(kOwn), columns.types());
    check_between(kSample, "beta", beta, 0, 1);

    const int64_t capacity = length_of(columns.arrays());
    check_rows(kSample, capacity, oldest, appended);
    MF_CHECK(oldest < appended, kSample, ": the memory must hold at least 1 row, got 0");
    Array nodes;
    if (has_tree) {
      nodes = view("sum_tree_sample", "nodes", args[2]);
      check_floating("sum_tree_sample", "nodes", nodes);
      check_out(kSample, "mass", mass, slot, nodes.dtype);
    }
    without_gil(slot.numel, [&] {
      if (has_tree) {
        draw_from_tree(nodes, capacity, seed, appended, beta, record_of(columns.arrays()), slot,
                       index, weight, mass);
      } else {
        draw_uniformly(capacity, seed, oldest, appended, slot, index, weight);
      }
      gather_rows_cpu(columns.arrays(), slot, true, out);
    });
    return none();
  });
}

// -- replay_update ------------------------------------------------------------------------------

namespace {

struct Update {
  Array nodes;
  int64_t capacity, oldest, appended;
  double alpha, epsilon;
  const int64_t* index;
  int64_t n;

  bool has(int64_t i) const { return uint64_t(index[i]) < uint64_t(appended); }
};

struct Updated {
  int64_t stale;
  double largest;
};

// NaN is none.
template <typename P>
bool is_priority(P p) {
  return p >= 0 && p <= std::numeric_limits<P>::max();
}

// The first position that is not good, or n.
template <typename Good>
int64_t first_bad(int64_t n, const Good& good) {
  bool all = true;  // of all, so that the loop vectorises
  for (int64_t i = 0; i < n; ++i) all &= good(i);
  if (all) return n;
  int64_t first = 0;
  while (first < n && good(first)) ++first;  // others may be writing into it
  return first;
}

// All was checked.
template <typename P>
Updated update(const Update& u, const P* priority) {
  auto* slot = scratch<int64_t>(u.n);
  auto* kept = scratch<double>(u.n);
  int64_t alive = 0;
  double largest = 0;
  const int64_t oldest_slot = u.oldest % u.capacity;
  for (int64_t i = 0; i < u.n; ++i) {
    const int64_t age = u.index[i] - u.oldest;
    const int64_t place = oldest_slot + age;
    slot[alive] = place < u.capacity ? place : place - u.capacity;
    kept[alive] = double(priority[i]);
    largest = age >= 0 && kept[alive] > largest ? kept[alive] : largest;
    alive += age >= 0;
  }
  dispatch_floating(u.nodes.dtype, [&]<typename N>() {
    auto* mass = scratch<N, 1>(u.n);
    MF_CALL_ISA(priority_masses(kept, alive, u.epsilon, u.alpha, mass));
    sum_tree_update_cpu(u.nodes, flat(slot, alive, DType::kInt64), flat(mass, alive, u.nodes.dtype),
                        u.capacity);
  });
  return {u.n - alive, largest};
}

[[noreturn]] void refuse_index(const Update& u, int64_t position) {
  PyErr_Format(PyExc_IndexError, "%s: index must be in [0, %lld), got %lld at position %lld",
               kUpdate, static_cast<long long>(u.appended),
               static_cast<long long>(u.index[position]), static_cast<long long>(position));
  throw PythonError();
}

[[noreturn]] void refuse_priority(double priority, int64_t position) {
  if (const Owned shown{PyFloat_FromDouble(priority)}) {
    PyErr_Format(PyExc_ValueError,
                 "%s: priority must be finite and not negative, got %R at position %lld", kUpdate,
                 shown.get(), static_cast<long long>(position));
  }
  throw PythonError();
}

bool is_batch(const TensorView& x, DType dtype) {
  return x.array.dtype == dtype && x.array.dim == 1 && is_contiguous(x.array);
}

}  // namespace

PyObject* replay_update(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    check_count("replay_update", count, 8);
    Update u;
    u.capacity = integer(args[1]);
    u.oldest = integer(args[4]);
    u.appended = integer(args[5]);
    u.alpha = real(args[6]);
    u.epsilon = real(args[7]);
    u.nodes = view("sum_tree_update_", "nodes", args[0]);
    const auto index = view_if_plain(args[2]), priority = view_if_plain(args[3]);
    if (!index || !priority || !is_batch(*index, DType::kInt64)) return none();
    const DType dtype = priority->array.dtype;
    if (dtype != DType::kFloat32 && dtype != DType::kFloat64) return none();
    if (!is_batch(*priority, dtype) || priority->array.numel != index->array.numel) return none();
    check_sum_tree("sum_tree_update_", u.nodes, u.capacity);
    check_rows(kUpdate, u.capacity, u.oldest, u.appended);
    u.index = index->array.as<const int64_t>();
    u.n = index->array.numel;

    int64_t bad_index = 0, bad_priority = 0;
    Updated updated = {};
    dispatch_floating(dtype, [&]<typename P>() {
      const auto* p = priority->array.as<const P>();
      without_gil(u.n, [&] {
        bad_index = first_bad(u.n, [&](int64_t i) { return u.has(i); });
        bad_priority = first_bad(u.n, [&](int64_t i) { return is_priority(p[i]); });
        if (bad_index == u.n && bad_priority == u.n) updated = update(u, p);
      });
      if (bad_index < u.n) refuse_index(u, bad_index);
      if (bad_priority < u.n) refuse_priority(double(p[bad_priority]), bad_priority);
    });
    return Py_BuildValue("Ld", static_cast<long long>(updated.stale), updated.largest);
  });
}

}  // namespace machin_fast
