// Work on sum trees (core/sum_tree.h) and its CPU and CUDA twins.
#pragma once

#include "core/array.h"
#include "core/cuda_stream.h"
#include "core/isa.h"
#include "core/sum_tree.h"

namespace machin_fast {

// Memory that the caller reads next, by leaf: fetching it meanwhile costs nothing.
struct RowsAhead {
  const char* rows = nullptr;
  int64_t stride = 0, bytes = 0;
};

// Where the targets of a search come from and what becomes of it.
template <typename N>
struct SumTreeSearch {
  const N* nodes;
  SumTreeLayout layout;
  const double* target = nullptr;  // given targets, or null: draws of `seed`
  uint64_t seed = 0;
  int64_t draws = 0;
  bool stratified = false;
  double total = 0;  // on CUDA the kernel takes it from the tree
  int64_t* index = nullptr;
  N* weight = nullptr;       // may be null
  N* probability = nullptr;  // may be null, on CUDA only together with `weight`
  RowsAhead ahead = {};      // CPU
};

// Checked work on CPU arrays: the torch ops and the direct calls (bindings/direct.cpp) share it.
SumTreeLayout check_sum_tree(const char* op, const Array& nodes, int64_t capacity);
void sum_tree_update_cpu(const Array& nodes, const Array& index, const Array& weight,
                         int64_t capacity);
// `probability` may be null.
void sum_tree_sample_cpu(const Array& nodes, uint64_t seed, int64_t capacity, bool stratified,
                         const Array& index, const Array& weight, const Array* probability,
                         const RowsAhead& ahead = {});
struct SumTreeSummary {
  double total, minimum;
};
SumTreeSummary sum_tree_summary_cpu(const Array& nodes, int64_t capacity);
// Whether a leaf may have this weight, once it is a number of the tree's dtype.
void check_weight(const char* op, const Array& nodes, const SumTreeLayout& layout, double weight);
// One weight for the leaves [first, first + n). All was checked.
void sum_tree_fill_cpu(const Array& nodes, const SumTreeLayout& layout, int64_t first, int64_t n,
                       double weight);

// CPU. The first position whose index or weight is refused, or n.
MF_PER_ISA(template <typename N>
           int64_t sum_tree_refused(const N* nodes, const SumTreeLayout& layout,
                                    const int64_t* index, const N* weight, int64_t n))
// CPU. Writes leaves, of a repeated index the last, and recomputes what stands above them.
MF_PER_ISA(template <typename N> void sum_tree_update(N* nodes, const SumTreeLayout& layout,
                                                      const int64_t* index, const N* weight,
                                                      int64_t n))
// CPU. As an update of the leaves [first, first + n) to one weight.
MF_PER_ISA(template <typename N> void sum_tree_fill(N* nodes, const SumTreeLayout& layout,
                                                    int64_t first, int64_t n, N weight))
// CPU. Recomputes everything above the leaves.
MF_PER_ISA(template <typename N> void sum_tree_rebuild(N* nodes, const SumTreeLayout& layout))
// CPU. Draws [begin, end). `starts` is what sum_tree_starts made of the same tree.
MF_PER_ISA(template <typename N> void sum_tree_search(const SumTreeSearch<N>& search,
                                                      const double* starts, int top_levels,
                                                      int64_t begin, int64_t end))
// CPU. Where each node of the first `top_levels` levels begins in [0, total): searching these is
// cheaper than summing blocks, and they are shared by all draws of a call.
MF_PER_ISA(template <typename N>
           void sum_tree_starts(const SumTreeSearch<N>& search, int top_levels, double* starts))

// CPU. The uniform counterpart: n of the rows [first, first + count) of a ring, whose row r is at
// slot r % capacity. `count` is at most `capacity`.
MF_PER_ISA(void uniform_rows(uint64_t seed, int64_t first, int64_t count, int64_t capacity,
                             int64_t n, int64_t* row, int64_t* slot))
// CPU. (priority + epsilon) ^ alpha in float64, exact for alpha 0 and 1, else with a relative error
// of 3e-14 (measured up to 1e30 and alpha 2) by which instruction sets may differ; results below
// 1e-307 are 0.
MF_PER_ISA(template <typename N> void priority_masses(const double* priority, int64_t n,
                                                      double epsilon, double alpha, N* mass))
// CPU. (least / mass) ^ beta, likewise.
MF_PER_ISA(template <typename N> void importance_weights(const N* mass, int64_t n, double least,
                                                         double beta, float* weight))

// CUDA. All arrays are device memory. `status` gets the first position refused, or n; nothing is
// written into the tree unless it is n.
template <typename N>
void launch_sum_tree_update(N* nodes, const SumTreeLayout& layout, const int64_t* index,
                            const N* weight, int64_t n, int64_t* status, CudaStream stream);
template <typename N>
void launch_sum_tree_rebuild(N* nodes, const SumTreeLayout& layout, int64_t* status,
                             CudaStream stream);
// Without a positive weight in the tree every index is -1.
template <typename N>
void launch_sum_tree_search(const SumTreeSearch<N>& search, CudaStream stream);
// Total and least positive weight, `least` may be null.
template <typename N>
void launch_sum_tree_summary(const N* nodes, const SumTreeLayout& layout, double* total,
                             double* least, CudaStream stream);

}  // namespace machin_fast
