#include "core/cuda_launch.h"
#include "ops/sum_tree.h"

namespace machin_fast {
namespace {

constexpr int kThreads = 128;

unsigned blocks_for(int64_t count) {
  return unsigned((count + kThreads - 1) / kThreads);
}

__device__ int64_t thread_number() {
  return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ void atomic_min(int64_t* at, int64_t value) {
  atomicMin(reinterpret_cast<long long*>(at), static_cast<long long>(value));
}

// A leaf that several positions of a batch want is first tagged by the last of them: tags are
// numbers with the sign bit set, so they beat every weight and the highest position wins.
__device__ unsigned tag(float, int64_t i) {
  return 0x80000000u | unsigned(i);
}
__device__ unsigned long long tag(double, int64_t i) {
  return 0x8000000000000000ull | static_cast<unsigned long long>(i);
}
template <typename N>
using Bits = decltype(tag(N(), 0));

static __global__ void sum_tree_accept(int64_t* status, int64_t n) {
  *status = n;
}

template <typename N>
__global__ void sum_tree_validate(SumTreeLayout layout, const int64_t* index, const N* weight,
                                  int64_t n, int64_t* status) {
  const int64_t i = thread_number();
  if (i >= n) return;
  const bool inside = index[i] >= 0 && index[i] < layout.capacity;
  if (!inside || !is_weight(weight[i], largest_weight<N>(layout))) atomic_min(status, i);
}

template <typename N>
__global__ void sum_tree_tag(N* leaves, const int64_t* index, int64_t n, const int64_t* status) {
  const int64_t i = thread_number();
  if (i >= n || *status < n) return;
  atomicMax(reinterpret_cast<Bits<N>*>(leaves + index[i]), tag(N(), i));
}

template <typename N>
__global__ void sum_tree_store(N* leaves, const int64_t* index, const N* weight, int64_t n,
                               const int64_t* status) {
  const int64_t i = thread_number();
  if (i >= n || *status < n) return;
  auto* bits = reinterpret_cast<Bits<N>*>(leaves + index[i]);
  // Read through atomics: the winner may write its weight meanwhile. A weight is no one's tag.
  if (atomicMax(bits, Bits<N>(0)) == tag(N(), i)) leaves[index[i]] = weight[i] + N(0);
}

template <typename N>
__device__ void refresh(N* nodes, const SumTreeLayout& layout, int level, int64_t node) {
  const N* children = nodes + layout.offset[level + 1] + node * kFanOut;
  nodes[layout.offset[level] + node] = N(block_sum(children));
  if (layout.has_minimum) {
    const bool leaves = level + 1 == layout.leaf_level();
    const N* minima = leaves ? children : nodes + layout.minima(level + 1) + node * kFanOut;
    nodes[layout.minima(level) + node] = block_minimum(minima);
  }
}

// Threads of a repeated node write the same value.
template <typename N>
__global__ void sum_tree_refresh(N* nodes, SumTreeLayout layout, int level, const int64_t* index,
                                 int64_t n, const int64_t* status) {
  const int64_t i = thread_number();
  if (i >= n || *status < n) return;
  refresh(nodes, layout, level, index[i] >> (4 * (layout.leaf_level() - level)));
}

// All nodes of a level. Of an unchanged block it writes what is there already.
template <typename N>
__global__ void sum_tree_refresh_all(N* nodes, SumTreeLayout layout, int level, int64_t blocks,
                                     const int64_t* status, int64_t accepted) {
  const int64_t node = thread_number();
  if (node < blocks && *status == accepted) refresh(nodes, layout, level, node);
}

template <typename N>
__global__ void sum_tree_validate_leaves(const N* leaves, SumTreeLayout layout, int64_t n,
                                         int64_t* status) {
  const int64_t i = thread_number();
  if (i >= n) return;
  const N largest = i < layout.capacity ? largest_weight<N>(layout) : N(0);
  if (!is_weight(leaves[i], largest)) atomic_min(status, i);
}

template <typename N>
__global__ void sum_tree_search_kernel(SumTreeSearch<N> search) {
  const int64_t i = thread_number();
  if (i >= search.draws) return;
  const double total = block_sum(search.nodes);
  const bool empty = !(total > 0);
  int64_t leaf = -1;
  if (!empty) {
    const double r = search.target != nullptr
                         ? below_total(search.target[i], total)
                         : SumTreeDraws(search.seed, search.draws, search.stratified, total)[i];
    leaf = find_leaf(search.nodes, search.layout, r);
  }
  search.index[i] = leaf;
  if (search.weight == nullptr) return;
  const N weight = empty ? N(0) : search.nodes[search.layout.leaves() + leaf];
  search.weight[i] = weight;
  search.probability[i] = empty ? N(0) : N(double(weight) / total);
}

template <typename N>
__global__ void sum_tree_summary_kernel(const N* nodes, SumTreeLayout layout, double* total,
                                        double* least) {
  *total = block_sum(nodes);
  *least = double(sum_tree_minimum(nodes, layout));
}

}  // namespace

template <typename N>
void launch_sum_tree_update(N* nodes, const SumTreeLayout& layout, const int64_t* index,
                            const N* weight, int64_t n, int64_t* status, CudaStream stream) {
  N* leaves = nodes + layout.leaves();
  const unsigned grid = blocks_for(n);
  MF_LAUNCH(sum_tree_accept, 1, 1, stream, status, n);
  MF_LAUNCH(sum_tree_validate<N>, grid, kThreads, stream, layout, index, weight, n, status);
  MF_LAUNCH(sum_tree_tag<N>, grid, kThreads, stream, leaves, index, n, status);
  MF_LAUNCH(sum_tree_store<N>, grid, kThreads, stream, leaves, index, weight, n, status);
  for (int level = layout.leaf_level() - 1; level >= 0; --level) {
    const int64_t blocks = layout.width[level + 1] / kFanOut;
    if (n < blocks) {
      MF_LAUNCH(sum_tree_refresh<N>, grid, kThreads, stream, nodes, layout, level, index, n,
                status);
    } else {
      MF_LAUNCH(sum_tree_refresh_all<N>, blocks_for(blocks), kThreads, stream, nodes, layout, level,
                blocks, status, n);
    }
  }
}

template <typename N>
void launch_sum_tree_rebuild(N* nodes, const SumTreeLayout& layout, int64_t* status,
                             CudaStream stream) {
  const int64_t leaves = layout.width[layout.leaf_level()];
  MF_LAUNCH(sum_tree_accept, 1, 1, stream, status, leaves);
  MF_LAUNCH(sum_tree_validate_leaves<N>, blocks_for(leaves), kThreads, stream,
            nodes + layout.leaves(), layout, leaves, status);
  for (int level = layout.leaf_level() - 1; level >= 0; --level) {
    const int64_t blocks = layout.width[level + 1] / kFanOut;
    MF_LAUNCH(sum_tree_refresh_all<N>, blocks_for(blocks), kThreads, stream, nodes, layout, level,
              blocks, status, leaves);
  }
}

template <typename N>
void launch_sum_tree_search(const SumTreeSearch<N>& search, CudaStream stream) {
  MF_LAUNCH(sum_tree_search_kernel<N>, blocks_for(search.draws), kThreads, stream, search);
}

template <typename N>
void launch_sum_tree_summary(const N* nodes, const SumTreeLayout& layout, double* total,
                             double* least, CudaStream stream) {
  MF_LAUNCH(sum_tree_summary_kernel<N>, 1, 1, stream, nodes, layout, total, least);
}

#define MF_SUM_TREE(N)                                                                     \
  template void launch_sum_tree_update(N*, const SumTreeLayout&, const int64_t*, const N*, \
                                       int64_t, int64_t*, CudaStream);                     \
  template void launch_sum_tree_rebuild(N*, const SumTreeLayout&, int64_t*, CudaStream);   \
  template void launch_sum_tree_search(const SumTreeSearch<N>&, CudaStream);               \
  template void launch_sum_tree_summary(const N*, const SumTreeLayout&, double*, double*,  \
                                        CudaStream)
MF_SUM_TREE(float);
MF_SUM_TREE(double);

}  // namespace machin_fast
