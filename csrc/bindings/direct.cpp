#include "bindings/direct.h"

#include "bindings/arguments.h"
#include "ops/gather_rows.h"
#include "ops/native_envs.h"
#include "ops/sum_tree.h"
#include "ops/write_rows.h"

namespace machin_fast {

PyObject* direct_sum_tree_update(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_update_";
  return guarded([&] {
    check_count(op, count, 4);
    const Array nodes = view(op, "nodes", args[0]);
    if (PyLong_Check(args[1])) {
      const int64_t one = 1;
      int64_t index = integer(args[1]);
      double weight = real(args[2]);
      float narrow = float(weight);
      const bool wide = nodes.dtype == DType::kFloat64;
      const Array i = flat(&index, one, DType::kInt64);
      const Array w = flat(wide ? static_cast<void*>(&weight) : &narrow, one, nodes.dtype);
      sum_tree_update_cpu(nodes, i, w, integer(args[3]));
      return none();
    }
    const Array index = view(op, "index", args[1]);
    const Array weight = view(op, "weight", args[2]);
    const int64_t capacity = integer(args[3]);
    without_gil(index.numel, [&] { sum_tree_update_cpu(nodes, index, weight, capacity); });
    return none();
  });
}

PyObject* direct_sum_tree_sample(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_sample";
  return guarded([&] {
    check_count(op, count, 8);
    const Array nodes = view(op, "nodes", args[0]);
    const uint64_t seed = seed_of_call(bits(args[1]), bits(args[2]));
    const int64_t capacity = integer(args[3]);
    const bool stratified = args[4] == Py_True;
    const Array index = view(op, "index", args[5]);
    const Array weight = view(op, "weight", args[6]);
    const Array probability = view(op, "probability", args[7]);
    without_gil(index.numel, [&] {
      sum_tree_sample_cpu(nodes, seed, capacity, stratified, index, weight, &probability);
    });
    return none();
  });
}

PyObject* direct_seed_of_call(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    check_count("seed_of_call", count, 2);
    return PyLong_FromLongLong(int64_t(seed_of_call(bits(args[0]), bits(args[1]))));
  });
}

PyObject* direct_sum_tree_summary(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "sum_tree_summary";
  return guarded([&] {
    check_count(op, count, 2);
    const SumTreeSummary summary =
        sum_tree_summary_cpu(view(op, "nodes", args[0]), integer(args[1]));
    return Py_BuildValue("dd", summary.total, summary.minimum);
  });
}

PyObject* direct_gather_rows(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "gather_rows";
  return guarded([&] {
    check_count(op, count, 3);
    const Tensors columns(op, "columns", args[0]);
    const Array index = view(op, "index", args[1]);
    const Tensors out(op, "out", args[2]);
    check_types(op, "out", out.types(), columns.types());
    without_gil(index.numel, [&] { gather_rows_cpu(columns.arrays(), index, true, out.arrays()); });
    return none();
  });
}

PyObject* direct_write_rows(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "write_rows_";
  return guarded([&] {
    check_count(op, count, 3);
    const Tensors columns(op, "columns", args[0]);
    const Tensors rows(op, "rows", args[1]);
    check_types(op, "rows", rows.types(), columns.types());
    const int64_t start = integer(args[2]);
    without_gil(length_of(rows.arrays()),
                [&] { write_rows_cpu(columns.arrays(), rows.arrays(), start); });
    return none();
  });
}

PyObject* direct_native_envs_step(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* op = "native_envs_step_";
  return guarded([&] {
    check_count(op, count, 6);
    const Tensors batch(op, "batch", args[1]), outputs(op, "outputs", args[5]);
    const std::span<const Array> kept = batch.arrays(), out = outputs.arrays();
    MF_CHECK(kept.size() == 2, op, ": batch must have 2 tensors, got ", kept.size());
    MF_CHECK(out.size() == 4 || out.size() == 5, op, ": outputs must have 4 or 5 tensors, got ",
             out.size());
    const EnvStepArrays arrays = {.state = kept[0],
                                  .counters = kept[1],
                                  .action = view(op, "action", args[2]),
                                  .observation = out[0],
                                  .reward = out[1],
                                  .terminated = out[2],
                                  .truncated = out[3],
                                  .final_observation = out.size() == 5 ? &out[4] : nullptr};
    const int64_t env = integer(args[0]), limit = integer(args[3]), autoreset = integer(args[4]);
    without_gil(arrays.state.numel, [&] { native_envs_step_cpu(env, arrays, limit, autoreset); });
    return none();
  });
}

}  // namespace machin_fast
