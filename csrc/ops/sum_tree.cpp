#include "ops/sum_tree.h"

#include <optional>
#include <vector>

#include "ops/tensor.h"

namespace machin_fast {

SumTreeLayout check_sum_tree(const char* op, const Array& nodes, int64_t capacity) {
  check_floating(op, "nodes", nodes);
  check_dim(op, "nodes", nodes, 1, "[nodes]");
  check_contiguous(op, "nodes", nodes);
  MF_CHECK(capacity >= 1 && capacity <= kMaxCapacity, op, ": capacity must be in [1, ",
           kMaxCapacity, "], got ", capacity);
  SumTreeLayout layout = sum_tree_layout(capacity);
  MF_CHECK(nodes.numel == layout.size(false) || nodes.numel == layout.size(true), op,
           ": nodes must have ", layout.size(false), " entries, or ", layout.size(true),
           " with minimum, for capacity ", capacity, ", got ", nodes.numel);
  layout.has_minimum = nodes.numel != layout.size(false);
  return layout;
}

namespace {

// Draws that a thread should have at least.
constexpr int64_t kDrawsPerThread = 4096;
// Starts are worth their making for this many nodes a draw, and should stay in the L2 cache.
constexpr int64_t kStartsPerDraw = 4;
constexpr int64_t kMostStarts = int64_t(1) << 16;

void check_batch(const char* op, const Array& nodes, const Array& index, const Array& weight) {
  check_dim(op, "index", index, 1, "[n]");
  check_dtype(op, "index", index, DType::kInt64);
  check_device(op, "index", index, nodes);
  check_contiguous(op, "index", index);
  check_like(op, "weight", weight, index, nodes.dtype);
  check_contiguous(op, "weight", weight);
}

template <typename N>
[[noreturn]] void refuse(const char* op, const SumTreeLayout& layout, int64_t index, N weight,
                         int64_t position) {
  MF_CHECK(index >= 0 && index < layout.capacity, op, ": index must be in [0, ", layout.capacity,
           "), got ", index, " at position ", position);
  fail(op, ": weight must be in [0, ", largest_weight<N>(layout),
       "] so that the total stays finite, got ", weight, " at position ", position);
}

template <typename N>
double checked_total(const char* op, const N* nodes) {
  const double total = block_sum(nodes);
  MF_CHECK(total > 0, op, ": nodes must hold a positive weight, got total ", total,
           ". Update some leaf first");
  return total;
}

template <typename N>
void search_cpu(const SumTreeSearch<N>& search, int64_t n) {
  const SumTreeLayout& layout = search.layout;
  const int64_t limit = n * kStartsPerDraw < kMostStarts ? n * kStartsPerDraw : kMostStarts;
  int top_levels = 0;
  while (top_levels < layout.levels && layout.width[top_levels] <= limit) ++top_levels;

  // Kept between calls: a fresh page costs more than what is written into it.
  thread_local std::vector<double> starts;
  if (top_levels > 0) {
    const int last = top_levels - 1;
    const size_t size = size_t(layout.offset[last] + layout.width[last]);
    if (starts.size() < size) starts.resize(size);
    MF_CALL_ISA(sum_tree_starts(search, top_levels, starts.data()));
  }
  const double* shared_starts = starts.data();  // `starts` is another one in another thread
  parallel_for(n, kDrawsPerThread, [&](int64_t begin, int64_t end) {
    MF_CALL_ISA(sum_tree_search(search, shared_starts, top_levels, begin, end));
  });
}

void check_draws(const char* op, const Array& nodes, const Array& index, const Array& weight,
                 const Array* probability) {
  check_batch(op, nodes, index, weight);
  if (probability != nullptr) check_out(op, "probability", *probability, index, nodes.dtype);
}

}  // namespace

void sum_tree_update_cpu(const Array& nodes, const Array& index, const Array& weight,
                         int64_t capacity) {
  constexpr const char* op = "sum_tree_update_";
  const SumTreeLayout layout = check_sum_tree(op, nodes, capacity);
  check_batch(op, nodes, index, weight);
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    const auto* i = index.as<const int64_t>();
    const N* w = weight.as<const N>();
    const int64_t refused =
        MF_CALL_ISA(sum_tree_refused(nodes.as<const N>(), layout, i, w, index.numel));
    if (refused < index.numel) refuse(op, layout, i[refused], w[refused], refused);
    if (index.numel > 0) MF_CALL_ISA(sum_tree_update(nodes.as<N>(), layout, i, w, index.numel));
  });
}

void sum_tree_sample_cpu(const Array& nodes, uint64_t seed, int64_t capacity, bool stratified,
                         const Array& index, const Array& weight, const Array* probability,
                         const RowsAhead& ahead) {
  constexpr const char* op = "sum_tree_sample";
  const SumTreeLayout layout = check_sum_tree(op, nodes, capacity);
  check_draws(op, nodes, index, weight, probability);
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    search_cpu(SumTreeSearch<N>{.nodes = nodes.as<const N>(),
                                .layout = layout,
                                .seed = seed,
                                .draws = index.numel,
                                .stratified = stratified,
                                .total = checked_total(op, nodes.as<const N>()),
                                .index = index.as<int64_t>(),
                                .weight = weight.as<N>(),
                                .probability = probability ? probability->as<N>() : nullptr,
                                .ahead = ahead},
               index.numel);
  });
}

SumTreeSummary sum_tree_summary_cpu(const Array& nodes, int64_t capacity) {
  const SumTreeLayout layout = check_sum_tree("sum_tree_summary", nodes, capacity);
  SumTreeSummary summary;
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    const N* data = nodes.as<const N>();
    summary = {block_sum(data), double(sum_tree_minimum(data, layout))};
  });
  return summary;
}

void check_weight(const char* op, const Array& nodes, const SumTreeLayout& layout, double weight) {
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    if (!is_weight(N(weight), largest_weight<N>(layout))) refuse(op, layout, 0, N(weight), 0);
  });
}

void sum_tree_fill_cpu(const Array& nodes, const SumTreeLayout& layout, int64_t first, int64_t n,
                       double weight) {
  dispatch_floating(nodes.dtype, [&]<typename N>() {
    MF_CALL_ISA(sum_tree_fill(nodes.as<N>(), layout, first, n, N(weight)));
  });
}

namespace {

void sum_tree_update_(Tensor nodes, const Tensor& index, const Tensor& weight, int64_t capacity,
                      bool check) {
  constexpr const char* op = "sum_tree_update_";
  const Array tree = view(nodes);
  const Tensor index_kept = dense(index), weight_kept = dense(weight);
  const Array i = view(index_kept), w = view(weight_kept);
  if (!tree.is_cuda()) return sum_tree_update_cpu(tree, i, w, capacity);

  const SumTreeLayout layout = check_sum_tree(op, tree, capacity);
  check_batch(op, tree, i, w);
  const int64_t one = 1;
  const Tensor status = empty(&one, 1, DType::kInt64, tree);
  dispatch_floating(tree.dtype, [&]<typename N>() {
    on_cuda(op, tree, [&](CudaStream stream) {
      launch_sum_tree_update(tree.as<N>(), layout, i.as<const int64_t>(), w.as<const N>(), i.numel,
                             view(status).as<int64_t>(), stream);
    });
    if (!check) return;
    const int64_t refused = read_one<int64_t>(status, 0);
    if (refused >= i.numel) return;
    refuse(op, layout, read_one<int64_t>(index_kept, refused), read_one<N>(weight_kept, refused),
           refused);
  });
}

void sum_tree_rebuild_(Tensor nodes, int64_t capacity, bool check) {
  constexpr const char* op = "sum_tree_rebuild_";
  const Array tree = view(nodes);
  const SumTreeLayout layout = check_sum_tree(op, tree, capacity);
  dispatch_floating(tree.dtype, [&]<typename N>() {
    const auto refuse_leaf = [&](int64_t leaf, N weight) {
      fail(op, ": leaf must be in [0, ", largest_weight<N>(layout), "], and 0 from ", capacity,
           " on, got ", weight, " at position ", leaf);
    };
    const int64_t leaves = layout.width[layout.leaf_level()];
    if (tree.is_cuda()) {
      const int64_t one = 1;
      const Tensor status = empty(&one, 1, DType::kInt64, tree);
      on_cuda(op, tree, [&](CudaStream stream) {
        launch_sum_tree_rebuild(tree.as<N>(), layout, view(status).as<int64_t>(), stream);
      });
      if (!check) return;
      const int64_t refused = read_one<int64_t>(status, 0);
      if (refused < leaves) {
        refuse_leaf(refused, read_one<N>(nodes, layout.leaves() + refused));
      }
    } else {
      const N* leaf = tree.as<const N>() + layout.leaves();
      const N largest = largest_weight<N>(layout);
      for (int64_t i = 0; i < leaves; ++i) {
        if (!is_weight(leaf[i], i < capacity ? largest : N(0))) refuse_leaf(i, leaf[i]);
      }
      MF_CALL_ISA(sum_tree_rebuild(tree.as<N>(), layout));
    }
  });
}

void sum_tree_sample_out(const Tensor& nodes, const Tensor& seed, int64_t capacity, bool stratified,
                         bool check, const Tensor& index, const Tensor& weight,
                         const Tensor& probability) {
  constexpr const char* op = "sum_tree_sample";
  const Array tree = view(nodes), s = view(seed);
  const Array i = view(index), w = view(weight), p = view(probability);
  check_dtype(op, "seed", s, DType::kInt64);
  MF_CHECK(s.numel == 1 && s.device == DeviceType::kCpu, op,
           ": seed must be one number on the CPU, got shape ", shape_text(s), " on ",
           device_text(s));
  const uint64_t seed_value = uint64_t(*s.as<const int64_t>());
  if (!tree.is_cuda()) {
    return sum_tree_sample_cpu(tree, seed_value, capacity, stratified, i, w, &p);
  }
  const SumTreeLayout layout = check_sum_tree(op, tree, capacity);
  check_draws(op, tree, i, w, &p);
  dispatch_floating(tree.dtype, [&]<typename N>() {
    on_cuda(op, tree, [&](CudaStream stream) {
      launch_sum_tree_search(SumTreeSearch<N>{.nodes = tree.as<const N>(),
                                              .layout = layout,
                                              .seed = seed_value,
                                              .draws = i.numel,
                                              .stratified = stratified,
                                              .index = i.as<int64_t>(),
                                              .weight = w.as<N>(),
                                              .probability = p.as<N>()},
                             stream);
    });
    if (check) {
      const Tensor root = read_back(nodes, 0, kFanOut);
      checked_total(op, view(root).as<const N>());
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> sum_tree_sample(const Tensor& nodes, const Tensor& seed,
                                                   int64_t n, int64_t capacity, bool stratified,
                                                   bool check) {
  const Array tree = view(nodes);
  MF_CHECK(n >= 0, "sum_tree_sample: n must not be negative, got ", n);
  const Tensor index = empty(&n, 1, DType::kInt64, tree);
  const Tensor weight = empty(&n, 1, tree.dtype, tree);
  const Tensor probability = empty(&n, 1, tree.dtype, tree);
  sum_tree_sample_out(nodes, seed, capacity, stratified, check, index, weight, probability);
  return {index, weight, probability};
}

Tensor sum_tree_find(const Tensor& nodes, const Tensor& target, int64_t capacity) {
  constexpr const char* op = "sum_tree_find";
  const Array tree = view(nodes);
  const SumTreeLayout layout = check_sum_tree(op, tree, capacity);
  const Tensor target_kept = dense(target);
  const Array t = view(target_kept);
  check_dim(op, "target", t, 1, "[n]");
  check_dtype(op, "target", t, DType::kFloat64);
  check_device(op, "target", t, tree);
  const Tensor index = empty_like(t, DType::kInt64);
  dispatch_floating(tree.dtype, [&]<typename N>() {
    SumTreeSearch<N> search{.nodes = tree.as<const N>(),
                            .layout = layout,
                            .target = t.as<const double>(),
                            .draws = t.numel,
                            .index = view(index).as<int64_t>()};
    if (tree.is_cuda()) {
      on_cuda(op, tree, [&](CudaStream stream) { launch_sum_tree_search(search, stream); });
    } else {
      search.total = checked_total(op, search.nodes);
      for (int64_t i = 0; i < t.numel; ++i) {
        MF_CHECK(search.target[i] >= 0, op, ": target must not be negative, got ", search.target[i],
                 " at position ", i);
      }
      search_cpu(search, t.numel);
    }
  });
  return index;
}

std::tuple<Tensor, Tensor> sum_tree_summary(const Tensor& nodes, int64_t capacity) {
  constexpr const char* op = "sum_tree_summary";
  const Array tree = view(nodes);
  const Tensor total = empty(nullptr, 0, DType::kFloat64, tree);
  const Tensor minimum = empty(nullptr, 0, DType::kFloat64, tree);
  double* const results[2] = {view(total).as<double>(), view(minimum).as<double>()};
  if (tree.is_cuda()) {
    const SumTreeLayout layout = check_sum_tree(op, tree, capacity);
    dispatch_floating(tree.dtype, [&]<typename N>() {
      on_cuda(op, tree, [&](CudaStream stream) {
        launch_sum_tree_summary(tree.as<const N>(), layout, results[0], results[1], stream);
      });
    });
  } else {
    const SumTreeSummary summary = sum_tree_summary_cpu(tree, capacity);
    *results[0] = summary.total;
    *results[1] = summary.minimum;
  }
  return {total, minimum};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "sum_tree_update_(Tensor(a!) nodes, Tensor index, Tensor weight, int capacity, "
      "bool check) -> ()");
  m.def("sum_tree_rebuild_(Tensor(a!) nodes, int capacity, bool check) -> ()");
  m.def(
      "sum_tree_sample(Tensor nodes, Tensor seed, int n, int capacity, bool stratified, "
      "bool check) -> (Tensor, Tensor, Tensor)");
  m.def(
      "sum_tree_sample.out(Tensor nodes, Tensor seed, int capacity, bool stratified, bool check, "
      "*, Tensor(a!) index, Tensor(b!) weight, Tensor(c!) probability) -> ()");
  m.def("sum_tree_find(Tensor nodes, Tensor target, int capacity) -> Tensor");
  m.def("sum_tree_summary(Tensor nodes, int capacity) -> (Tensor, Tensor)");
}

MF_IMPLEMENT(m) {
  m.impl("sum_tree_update_", TORCH_BOX(&sum_tree_update_));
  m.impl("sum_tree_rebuild_", TORCH_BOX(&sum_tree_rebuild_));
  m.impl("sum_tree_sample", TORCH_BOX(&sum_tree_sample));
  m.impl("sum_tree_sample.out", TORCH_BOX(&sum_tree_sample_out));
  m.impl("sum_tree_find", TORCH_BOX(&sum_tree_find));
  m.impl("sum_tree_summary", TORCH_BOX(&sum_tree_summary));
}

}  // namespace machin_fast
