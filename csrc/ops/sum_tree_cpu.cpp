#include <cstring>
#include <type_traits>

#include "core/exp.h"
#include "core/log.h"
#include "ops/sum_tree.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace machin_fast::MF_ISA {
namespace {

// Descents that go down together. One alone waits for memory at every level.
constexpr int kTogether = 32;

typedef double Double4 __attribute__((vector_size(32)));
typedef int64_t Mask4 __attribute__((vector_size(32)));

template <typename N>
MF_HD Double4 load4(const N* p) {
  typedef N Four __attribute__((vector_size(4 * sizeof(N))));
  Four x;
  std::memcpy(&x, p, sizeof x);
#if defined(__AVX2__)
  if constexpr (sizeof(N) == 4) return (Double4)_mm256_cvtps_pd((__m128)x);  // gcc 12: two halves
#endif
  return __builtin_convertvector(x, Double4);
}

MF_HD int count(Mask4 mask) {
#if defined(__AVX2__)
  return __builtin_popcount(unsigned(_mm256_movemask_pd((__m256d)mask)));
#else
  const auto half =
      __builtin_shufflevector(mask, mask, 0, 1) + __builtin_shufflevector(mask, mask, 2, 3);
  return -int(half[0] + half[1]);
#endif
}

// The sums of a block's four groups, added in the order that core/sum_tree.h lays down.
template <typename N>
MF_HD Double4 group_sums(const N* p) {
  const Double4 a = load4(p), b = load4(p + 4), c = load4(p + 8), d = load4(p + 12);
  const Double4 ab =
      __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
  const Double4 cd =
      __builtin_shufflevector(c, d, 0, 4, 2, 6) + __builtin_shufflevector(c, d, 1, 5, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// As block_sum of core/sum_tree.h.
template <typename N>
MF_HD double sum_of_block(const N* p) {
  const Double4 fours = (load4(p) + load4(p + 8)) + (load4(p + 4) + load4(p + 12));
  const auto twos =
      __builtin_shufflevector(fours, fours, 0, 1) + __builtin_shufflevector(fours, fours, 2, 3);
  return twos[0] + twos[1];
}

// As block_minimum of core/sum_tree.h. The bits of weights ascend as they do, and those of 0 less
// one are the largest of all.
template <typename N>
MF_HD N minimum_of_block(const N* p) {
  using Bits = std::conditional_t<sizeof(N) == 4, uint32_t, uint64_t>;
  typedef Bits Four __attribute__((vector_size(4 * sizeof(N))));
  Four least = {};
  least -= 1;
  for (int g = 0; g < kFanOut; g += 4) {
    Four x;
    std::memcpy(&x, p + g, sizeof x);
    x -= 1;
    least = x < least ? x : least;
  }
  const Four turned = __builtin_shufflevector(least, least, 2, 3, 0, 1);
  least = turned < least ? turned : least;
  const Bits bits = (least[0] < least[1] ? least[0] : least[1]) + 1;
  N smallest;
  std::memcpy(&smallest, &bits, sizeof smallest);
  return smallest;
}

// (x0, x0+x1, (x0+x1)+x2, (x0+x1)+(x2+x3)).
MF_HD Double4 running_sums(Double4 x) {
#if defined(__AVX512VL__)
  const Double4 pairs = x + (Double4)_mm256_maskz_movedup_pd(0xa, (__m256d)x);
  return pairs + (Double4)_mm256_maskz_permutex_pd(0xc, (__m256d)pairs, 0x55);
#else
  const Double4 zero{};
  const Double4 pairs = x + __builtin_shufflevector(x, zero, 4, 0, 4, 2);
  return pairs + __builtin_shufflevector(pairs, zero, 4, 4, 1, 1);
#endif
}

// As find_of_four of core/sum_tree.h, of which it is the vectorised form.
MF_HD int child_of_four(Double4 x, double& r) {
  const Double4 sums = running_sums(x);
  int child = count(sums <= r);
  if (child == 4) [[unlikely]] {
    child = x[3] > 0 ? 3 : x[2] > 0 ? 2 : x[1] > 0 ? 1 : 0;
  }
#if defined(__AVX512VL__)
  const __m256d before = _mm256_maskz_permutex_pd(0xe, (__m256d)sums, 0x90);
  const __m256d rest = _mm256_set1_pd(r) - before;
  r = _mm256_cvtsd_f64(_mm256_permutexvar_pd(_mm256_set1_epi64x(child), rest));
#else
  alignas(32) double before[8];
  before[3] = 0;
  std::memcpy(before + 4, &sums, sizeof sums);
  r -= before[3 + child];
#endif
  return child;
}

// How many of 16 ascending starts are at most r.
MF_HD int starts_not_above(const double* p, double r) {
#if defined(__AVX512F__)
  const __m512d at = _mm512_set1_pd(r);
  const unsigned low = _mm512_cmp_pd_mask(_mm512_loadu_pd(p), at, _CMP_LE_OQ);
  const unsigned high = _mm512_cmp_pd_mask(_mm512_loadu_pd(p + 8), at, _CMP_LE_OQ);
  return __builtin_popcount(low | high << 8);
#else
  int below = 0;
  for (int g = 0; g < kFanOut; g += 4) below += count(load4(p + g) <= r);
  return below;
#endif
}

// Draws or targets [first, first + n), at most kTogether.
template <typename N>
MF_HD void descend(const SumTreeSearch<N>& search, const SumTreeDraws& draws, const double* starts,
                   int top_levels, int64_t first, int n) {
  const SumTreeLayout& layout = search.layout;
  const N* leaves = search.nodes + layout.leaves();
  double r[kTogether];
  int64_t node[kTogether] = {};
  if (search.target != nullptr) {
    for (int k = 0; k < n; ++k) r[k] = below_total(search.target[first + k], search.total);
  } else {
    for (int k = 0; k < n; ++k) r[k] = draws[first + k];
  }
  for (int level = 0; level < top_levels; ++level) {
    const double* p = starts + layout.offset[level];
    for (int k = 0; k < n; ++k) {
      const int child = starts_not_above(p + node[k] * kFanOut, r[k]) - 1;
      node[k] = node[k] * kFanOut + (child < 0 ? 0 : child);
    }
  }
  if (top_levels > 0 && top_levels < layout.levels) {
    const double* p = starts + layout.offset[top_levels - 1];
    for (int k = 0; k < n; ++k) {
      r[k] -= p[node[k]];
      __builtin_prefetch(search.nodes + layout.offset[top_levels] + node[k] * kFanOut);
    }
  }
  for (int level = top_levels; level < layout.levels; ++level) {
    const N* p = search.nodes + layout.offset[level];
    // Two loops: the shorter the chain of a turn, the more turns the processor overlaps.
    for (int k = 0; k < n; ++k) {
      node[k] = node[k] * 4 + child_of_four(group_sums(p + node[k] * kFanOut), r[k]);
    }
    for (int k = 0; k < n; ++k) {
      node[k] = node[k] * 4 + child_of_four(load4(p + node[k] * 4), r[k]);
    }
    if (level == layout.leaf_level()) break;
    const N* children = search.nodes + layout.offset[level + 1];
    for (int k = 0; k < n; ++k) __builtin_prefetch(children + node[k] * kFanOut);
  }
  for (int k = 0; k < n; ++k) search.index[first + k] = node[k];
  if (search.ahead.rows != nullptr) {
    for (int k = 0; k < n; ++k) {
      const char* row = search.ahead.rows + node[k] * search.ahead.stride;
      __builtin_prefetch(row);
      __builtin_prefetch(row + search.ahead.bytes - 1);
    }
  }
  if (search.weight == nullptr) return;
  for (int k = 0; k < n; ++k) {
    const N weight = leaves[node[k]];
    search.weight[first + k] = weight;
    if (search.probability != nullptr) {
      search.probability[first + k] = N(double(weight) / search.total);
    }
  }
}

// The nodes of one inner level and what they are computed from.
template <typename N>
struct Level {
  const N* children;
  const N* child_minima;
  N* sums;
  N* minima;  // null if the tree keeps none
  int64_t blocks;

  Level(N* nodes, const SumTreeLayout& layout, int level)
      : children(nodes + layout.offset[level + 1]),
        child_minima(level + 1 == layout.leaf_level() ? children
                                                      : nodes + layout.minima(level + 1)),
        sums(nodes + layout.offset[level]),
        minima(layout.has_minimum ? nodes + layout.minima(level) : nullptr),
        blocks(layout.width[level + 1] / kFanOut) {}

  MF_HD void refresh(int64_t node) const {
    sums[node] = N(sum_of_block(children + node * kFanOut));
    if (minima != nullptr) minima[node] = minimum_of_block(child_minima + node * kFanOut);
  }
};

template <typename N>
void rebuild_from(N* nodes, const SumTreeLayout& layout, int first) {
  for (int level = first; level >= 0; --level) {
    const Level<N> inner(nodes, layout, level);
    for (int64_t node = 0; node < inner.blocks; ++node) inner.refresh(node);
  }
}

// p[i]^y for p[i] >= 0 and a finite y. A product with the logarithm of 0 would make 0^0 a NaN, and
// one with 1 would lose exactness. `p` is filled up to whole packs.
MF_HD void powers(double* p, int64_t n, double y) {
  using Pack = Vec<double>;
  if (y == 1) return;
  for (; n % kLanes<Pack> != 0; ++n) p[n] = 1;
  if (y == 0) {
    for (int64_t i = 0; i < n; ++i) p[i] = 1;
    return;
  }
  // Two loops: the shorter the chain of a turn, the more turns the processor overlaps.
  for (int64_t i = 0; i < n; i += kLanes<Pack>) store(p, i, log_lanes(load<Pack>(p, i)) * y);
  for (int64_t i = 0; i < n; i += kLanes<Pack>) store(p, i, exp_lanes(load<Pack>(p, i)));
}

// out[i] = base(x[i])^y, in float64.
template <typename X, typename Y, typename Base>
MF_HD void powers_of(const X* x, int64_t n, double y, Y* out, const Base& base) {
  constexpr int64_t kBlock = 64;
  alignas(64) double p[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = n - begin < kBlock ? n - begin : kBlock;
    for (int64_t i = 0; i < count; ++i) p[i] = base(double(x[begin + i]));
    powers(p, count, y);
    for (int64_t i = 0; i < count; ++i) out[begin + i] = Y(p[i]);
  }
}

}  // namespace

template <typename N>
int64_t sum_tree_refused(const N* nodes, const SumTreeLayout& layout, const int64_t* index,
                         const N* weight, int64_t n) {
  const N largest = largest_weight<N>(layout);
  const N* leaves = nodes + layout.leaves();
  const auto refuse = [&](int64_t i) {
    return uint64_t(index[i]) >= uint64_t(layout.capacity) || !is_weight(weight[i], largest);
  };
  bool refused = false;
  for (int64_t i = 0; i < n; ++i) {
    refused |= refuse(i);
    // The leaves are written next. A wild index prefetches nothing.
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(leaves) +
                                                     uint64_t(index[i]) * sizeof(N)),
                       1);
  }
  if (!refused) return n;
  int64_t first = 0;
  while (!refuse(first)) ++first;
  return first;
}

template <typename N>
void sum_tree_update(N* nodes, const SumTreeLayout& layout, const int64_t* index, const N* weight,
                     int64_t n) {
  N* leaves = nodes + layout.leaves();
  for (int64_t i = 0; i < n; ++i) leaves[index[i]] = weight[i] + N(0);  // -0 becomes 0

  int shift = 0;
  for (int level = layout.leaf_level() - 1; level >= 0; --level) {
    shift += 4;
    const Level<N> inner(nodes, layout, level);
    if (n >= inner.blocks) {
      rebuild_from(nodes, layout, level);
      return;
    }
    int64_t previous = -1;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t node = index[i] >> shift;
      if (node != previous) inner.refresh(node);  // neighbours often come together
      previous = node;
    }
  }
}

template <typename N>
void sum_tree_fill(N* nodes, const SumTreeLayout& layout, int64_t first, int64_t n, N weight) {
  if (n == 0) return;
  N* leaves = nodes + layout.leaves();
  weight += N(0);  // -0 becomes 0
  for (int64_t i = first; i < first + n; ++i) leaves[i] = weight;
  int64_t begin = first, last = first + n - 1;
  for (int level = layout.leaf_level() - 1; level >= 0; --level) {
    const Level<N> inner(nodes, layout, level);
    begin /= kFanOut;
    last /= kFanOut;
    for (int64_t node = begin; node <= last; ++node) inner.refresh(node);
  }
}

template <typename N>
void sum_tree_rebuild(N* nodes, const SumTreeLayout& layout) {
  rebuild_from(nodes, layout, layout.leaf_level() - 1);
}

template <typename N>
void sum_tree_starts(const SumTreeSearch<N>& search, int top_levels, double* starts) {
  const SumTreeLayout& layout = search.layout;
  for (int level = 0; level < top_levels; ++level) {
    const double* parents = level == 0 ? nullptr : starts + layout.offset[level - 1];
    const int64_t blocks = layout.width[level] / kFanOut;
    const int64_t siblings = level == 0 ? 1 : layout.width[level - 1];
    for (int64_t block = 0; block < blocks; ++block) {
      const N* p = search.nodes + layout.offset[level] + block * kFanOut;
      double* out = starts + layout.offset[level] + block * kFanOut;
      const double begin = level == 0 ? 0 : parents[block];
      const Double4 groups = running_sums(group_sums(p));
      for (int g = 0; g < 4; ++g) {
        const double base = begin + (g == 0 ? 0 : groups[g - 1]);
        const Double4 sums = running_sums(load4(p + 4 * g));
        out[4 * g] = base;
        for (int c = 1; c < 4; ++c) out[4 * g + c] = base + sums[c - 1];
      }
      // A node ends where the next begins, rounding or not; one of weight 0 begins there too, so
      // that the last start not above a target always belongs to a positive weight.
      double next = block + 1 < siblings && level > 0 ? parents[block + 1] : search.total;
      for (int c = kFanOut - 1; c >= 0; --c) {
        next = p[c] > 0 && out[c] < next ? out[c] : next;
        out[c] = next;
      }
    }
  }
}

template <typename N>
void sum_tree_search(const SumTreeSearch<N>& search, const double* starts, int top_levels,
                     int64_t begin, int64_t end) {
  const SumTreeSearch<N> local = search;  // a local copy stays in registers whatever is written
  const SumTreeDraws draws(local.seed, local.draws, local.stratified, local.total);
  for (int64_t i = begin; i < end; i += kTogether) {
    const int64_t left = end - i;
    descend(local, draws, starts, top_levels, i, left < kTogether ? int(left) : kTogether);
  }
}

void uniform_rows(uint64_t seed, int64_t first, int64_t count, int64_t capacity, int64_t n,
                  int64_t* row, int64_t* slot) {
  const int64_t first_slot = first % capacity;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t drawn = int64_t(uniform_draw(seed, uint64_t(i)) * double(count));
    const int64_t offset = drawn < count ? drawn : count - 1;  // the product may be rounded up
    const int64_t place = first_slot + offset;
    row[i] = first + offset;
    slot[i] = place < capacity ? place : place - capacity;
  }
}

template <typename N>
void priority_masses(const double* priority, int64_t n, double epsilon, double alpha, N* mass) {
  powers_of(priority, n, alpha, mass, [&](double x) { return x + epsilon; });
}

template <typename N>
void importance_weights(const N* mass, int64_t n, double least, double beta, float* weight) {
  powers_of(mass, n, beta, weight, [&](double x) { return least / x; });
}

#define MF_SUM_TREE(N)                                                                          \
  template int64_t sum_tree_refused(const N*, const SumTreeLayout&, const int64_t*, const N*,   \
                                    int64_t);                                                   \
  template void sum_tree_update(N*, const SumTreeLayout&, const int64_t*, const N*, int64_t);   \
  template void sum_tree_fill(N*, const SumTreeLayout&, int64_t, int64_t, N);                   \
  template void sum_tree_rebuild(N*, const SumTreeLayout&);                                     \
  template void sum_tree_starts(const SumTreeSearch<N>&, int, double*);                         \
  template void sum_tree_search(const SumTreeSearch<N>&, const double*, int, int64_t, int64_t); \
  template void priority_masses(const double*, int64_t, double, double, N*);                    \
  template void importance_weights(const N*, int64_t, double, double, float*)
MF_SUM_TREE(float);
MF_SUM_TREE(double);

}  // namespace machin_fast::MF_ISA
