// A sum tree whose state is one array of numbers, so that it can live in a tensor.
//
// Every node has 16 children, one cache line of float32. Level 0 is the root block: the up to 16
// nodes whose sum is the total. The last level holds the weights, leaf i at place i. All levels
// stand one behind the other, each padded with zeros to whole blocks. A tree may also keep, behind
// the sums, the least positive weight below each inner node (0 where there is none, as in a
// new tree, which is all zeros).
//
// An inner node is always recomputed from its children, never incremented, so after any history
// the tree equals one built anew from its leaves, bit for bit and on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/host_device.h"
#include "core/random.h"

namespace machin_fast {

inline constexpr int kFanOut = 16;
inline constexpr int kMaxLevels = 8;  // 16^8 leaves
inline constexpr int64_t kMaxCapacity = int64_t(1) << 31;

struct SumTreeLayout {
  int64_t capacity = 0;
  int levels = 0;
  bool has_minimum = false;
  int64_t offset[kMaxLevels] = {};  // of the level in the array
  int64_t width[kMaxLevels] = {};   // nodes of the level, padding included
  int64_t sums = 0;                 // nodes of all levels; the minima follow

  MF_HD int leaf_level() const { return levels - 1; }
  MF_HD int64_t leaves() const { return offset[levels - 1]; }
  MF_HD int64_t minima(int level) const { return sums + offset[level]; }
  MF_HD int64_t size(bool with_minimum) const { return with_minimum ? sums + leaves() : sums; }
};

// The layout of a tree of `capacity` leaves, 1 to kMaxCapacity.
inline SumTreeLayout sum_tree_layout(int64_t capacity) {
  SumTreeLayout layout;
  layout.capacity = capacity;
  int64_t width[kMaxLevels];  // leaves first
  int64_t nodes = capacity;
  do {
    const int64_t blocks = (nodes + kFanOut - 1) / kFanOut;
    width[layout.levels++] = blocks * kFanOut;
    nodes = blocks;
  } while (nodes > 1);
  for (int level = 0; level < layout.levels; ++level) {
    layout.width[level] = width[layout.levels - 1 - level];
    layout.offset[level] = layout.sums;
    layout.sums += layout.width[level];
  }
  return layout;
}

// Variables, because device code may read one but not call std::numeric_limits.
template <typename N>
inline constexpr N kLargest = std::numeric_limits<N>::max();
template <typename N>
inline constexpr N kInfinity = std::numeric_limits<N>::infinity();
template <typename N>
inline constexpr N kNaN = std::numeric_limits<N>::quiet_NaN();

// No weight may be so large that the total of all leaves could overflow.
template <typename N>
MF_HD N largest_weight(const SumTreeLayout& layout) {
  return kLargest<N> / N(2 * layout.width[layout.levels - 1]);
}

// False for NaN too.
template <typename N>
MF_HD bool is_weight(N weight, N largest) {
  return weight >= N(0) && weight <= largest;
}

// The sum of a block, in float64 and in this order everywhere, which packs of lanes like: halves
// are added lane by lane until one number is left.
template <typename N>
MF_HD double block_sum(const N* p) {
  double fours[4];
  for (int i = 0; i < 4; ++i) {
    fours[i] = (double(p[i]) + double(p[i + 8])) + (double(p[i + 4]) + double(p[i + 12]));
  }
  return (fours[0] + fours[2]) + (fours[1] + fours[3]);
}

template <typename N>
MF_HD double group_sum(const N* p) {
  return (double(p[0]) + double(p[1])) + (double(p[2]) + double(p[3]));
}

// The least positive of a block, 0 if there is none.
template <typename N>
MF_HD N block_minimum(const N* p) {
  N least = kInfinity<N>;
  for (int c = 0; c < kFanOut; ++c) least = p[c] > N(0) && p[c] < least ? p[c] : least;
  return least < kInfinity<N> ? least : N(0);
}

// The least positive weight of the tree, infinity if all are 0. NaN if the tree does not keep it
// and finding it would mean a walk over all leaves.
template <typename N>
MF_HD N sum_tree_minimum(const N* nodes, const SumTreeLayout& layout) {
  if (layout.levels > 1 && !layout.has_minimum) return kNaN<N>;
  const N least = block_minimum(layout.levels == 1 ? nodes : nodes + layout.minima(0));
  return least > N(0) ? least : kInfinity<N>;
}

// The first of four whose running sum exceeds r; the last positive one if rounding pushed r past
// all of them, so that nothing of weight 0 is ever found. Takes what stands before it off r.
MF_HD int find_of_four(double x0, double x1, double x2, double x3, double& r) {
  const double sum1 = x0 + x1;
  const double sum2 = sum1 + x2;
  const double sum3 = sum1 + (x2 + x3);
  if (r < x0) return 0;
  if (r < sum1) {
    r -= x0;
    return 1;
  }
  if (r < sum2) {
    r -= sum1;
    return 2;
  }
  if (r < sum3) {
    r -= sum2;
    return 3;
  }
  const int last = x3 > 0 ? 3 : x2 > 0 ? 2 : x1 > 0 ? 1 : 0;
  r -= last == 3 ? sum2 : last == 2 ? sum1 : last == 1 ? x0 : 0;
  return last;
}

// The child of a block that r falls into, counted from the block's start; r becomes relative to
// the child. The block must have a positive sum.
template <typename N>
MF_HD int find_child(const N* p, double& r) {
  const int group =
      find_of_four(group_sum(p), group_sum(p + 4), group_sum(p + 8), group_sum(p + 12), r);
  const N* q = p + 4 * group;
  return 4 * group + find_of_four(double(q[0]), double(q[1]), double(q[2]), double(q[3]), r);
}

// The leaf that r in [0, total) falls into: the first whose running sum exceeds r.
template <typename N>
MF_HD int64_t find_leaf(const N* nodes, const SumTreeLayout& layout, double r) {
  int64_t node = 0;
  for (int level = 0; level < layout.levels; ++level) {
    node = node * kFanOut + find_child(nodes + layout.offset[level] + node * kFanOut, r);
  }
  return node;
}

// r, or the last number before the total if rounding pushed r past it.
MF_HD double below_total(double r, double total) {
  const double last = total * (1 - 0x1.0p-53);
  return r < last ? r : last;
}

// Where n draws look into [0, total): anywhere, or draw i into the i-th of n equal strata.
struct SumTreeDraws {
  uint64_t seed;
  bool stratified;
  double total, scale;

  MF_HD SumTreeDraws(uint64_t seed, int64_t n, bool stratified, double total)
      : seed(seed),
        stratified(stratified),
        total(total),
        scale(stratified ? total / double(n) : total) {}

  MF_HD double operator[](int64_t i) const {
    const double stratum = stratified ? double(i) : 0;
    return below_total((stratum + uniform_draw(seed, uint64_t(i))) * scale, total);
  }
};

}  // namespace machin_fast
