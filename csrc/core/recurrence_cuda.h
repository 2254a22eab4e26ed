// CUDA driver of the linear recurrences. Included by `.cu` files only.
//
// Time is cut into tiles, and a tile into runs of a few rows, one run a thread: neighbouring
// threads of a block take neighbouring envs, so that loads coalesce, and its rows of threads take
// successive runs. Maps compose, so a block scans its runs' maps in shared memory, and a rollout of
// several tiles takes three launches: maps of the tiles, carries into the tiles, results.
// A single column of a million steps is as parallel as a million columns.
#pragma once

#include "core/cuda_launch.h"
#include "core/linear_recurrence.h"

namespace machin_fast {

inline constexpr int kRecurrenceThreads = 256;

// Where everything lies in the scratch memory, and how the work is cut.
template <typename N>
struct RecurrencePlan {
  int64_t steps, envs;
  int lanes;        // envs a block takes
  int runs;         // rows of threads a block has
  int run_length;   // steps a thread takes
  int64_t tiles;    // per env
  bool* ends;       // [steps], null if only the last step ends a segment
  Affine<N>* maps;  // [tiles, envs]
  N* carries;       // [tiles, envs]

  MF_HD int64_t tile_length() const { return int64_t(runs) * run_length; }
};

// A thread's place: env and which steps, counted in the direction of the walk.
template <typename N>
struct RecurrencePlace {
  int64_t env, first, last;  // first > last - 1: nothing to do
  int run, lane;

  __device__ RecurrencePlace(const RecurrencePlan<N>& plan, int64_t tile) {
    lane = int(threadIdx.x) % plan.lanes;
    run = int(threadIdx.x) / plan.lanes;
    env = int64_t(blockIdx.x) * plan.lanes + lane;
    first = tile * plan.tile_length() + int64_t(run) * plan.run_length;
    last = first + plan.run_length < plan.steps ? first + plan.run_length : plan.steps;
    if (env >= plan.envs) last = first;
  }
};

// The map of all runs of this env before this one in the walk; `whole` also takes the last run.
template <typename N>
__device__ Affine<N> scan_runs(Affine<N> own, int run, int runs, int lanes, Affine<N>* whole) {
  __shared__ Affine<N> maps[kRecurrenceThreads];
  const int place = int(threadIdx.x);
  for (int reach = 1; reach < runs; reach *= 2) {
    maps[place] = own;
    __syncthreads();
    if (run >= reach) own = compose(own, maps[place - reach * lanes]);
    __syncthreads();
  }
  maps[place] = own;
  __syncthreads();
  const Affine<N> before = run == 0 ? Affine<N>{N(0), N(1)} : maps[place - lanes];
  *whole = maps[(runs - 1) * lanes + place % lanes];
  __syncthreads();
  return before;
}

template <typename Op, typename N>
__device__ auto load_step(const Op& op, const RecurrencePlan<N>& plan, int64_t env, int64_t k) {
  const int64_t step = Op::kForward ? k : plan.steps - 1 - k;
  const bool last = plan.ends != nullptr ? plan.ends[step] : step == plan.steps - 1;
  return op.template load<N>(step * plan.envs + env, last);
}

template <typename Op, typename N>
__device__ Affine<N> map_of_run(const Op& op, const RecurrencePlan<N>& plan,
                                const RecurrencePlace<N>& place) {
  Affine<N> map = {N(0), N(1)};
  for (int64_t k = place.first; k < place.last; ++k) {
    map = compose(load_step(op, plan, place.env, k).map, map);
  }
  return map;
}

template <typename Op, typename N>
__global__ void __launch_bounds__(kRecurrenceThreads)
    recurrence_maps(Op op, RecurrencePlan<N> plan) {
  const RecurrencePlace<N> place(plan, blockIdx.y);
  Affine<N> whole;
  scan_runs(map_of_run(op, plan, place), place.run, plan.runs, plan.lanes, &whole);
  if (place.run == 0 && place.env < plan.envs) {
    plan.maps[int64_t(blockIdx.y) * plan.envs + place.env] = whole;
  }
}

// One row of blocks: each thread composes a stretch of tiles, as others compose a run of steps.
template <typename N>
__global__ void __launch_bounds__(kRecurrenceThreads) recurrence_carries(RecurrencePlan<N> plan) {
  const RecurrencePlace<N> place(plan, 0);
  const int64_t stretch = (plan.tiles + plan.runs - 1) / plan.runs;
  const int64_t begin = place.run * stretch;
  int64_t end = begin + stretch < plan.tiles ? begin + stretch : plan.tiles;
  if (place.env >= plan.envs) end = begin;

  Affine<N> map = {N(0), N(1)};
  for (int64_t tile = begin; tile < end; ++tile) {
    map = compose(plan.maps[tile * plan.envs + place.env], map);
  }
  Affine<N> whole;
  N carry = apply(scan_runs(map, place.run, plan.runs, plan.lanes, &whole), N(0));
  for (int64_t tile = begin; tile < end; ++tile) {
    plan.carries[tile * plan.envs + place.env] = carry;
    carry = apply(plan.maps[tile * plan.envs + place.env], carry);
  }
}

template <typename Op, typename N>
__global__ void __launch_bounds__(kRecurrenceThreads)
    recurrence_results(Op op, RecurrencePlan<N> plan) {
  const RecurrencePlace<N> place(plan, blockIdx.y);
  Affine<N> whole;
  const Affine<N> before =
      scan_runs(map_of_run(op, plan, place), place.run, plan.runs, plan.lanes, &whole);
  if (place.first >= place.last) return;
  N carry = 0;
  if (plan.tiles > 1) carry = plan.carries[int64_t(blockIdx.y) * plan.envs + place.env];
  carry = apply(before, carry);
  for (int64_t k = place.first; k < place.last; ++k) {
    const int64_t step = Op::kForward ? k : plan.steps - 1 - k;
    const auto terms = load_step(op, plan, place.env, k);
    const N x = apply(terms.map, carry);
    op.store(step * plan.envs + place.env, terms, x, carry);
    carry = x;
  }
}

// static: a kernel that is no template would otherwise be defined once per .cu.
static __global__ void recurrence_clear(bool* ends, int64_t steps) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < steps) ends[i] = false;
}

static __global__ void recurrence_mark(bool* ends, const int64_t* bounds, int64_t segments) {
  const int64_t s = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (s < segments && bounds[s + 1] > bounds[s]) ends[bounds[s + 1] - 1] = true;
}

// `scratch` is null to learn the size only: the bytes used are returned.
template <typename N>
int64_t plan_recurrence(const RolloutLayout& layout, char* scratch, RecurrencePlan<N>* plan,
                        int64_t** bounds) {
  constexpr int kLongRun = 32, kShortRun = 8;
  int lanes = 1;
  while (lanes < 32 && lanes < layout.envs) lanes *= 2;
  const int runs = kRecurrenceThreads / lanes;
  // One tile if that keeps runs short; else short runs, for many blocks.
  const bool single = layout.steps <= int64_t(runs) * kLongRun;
  const int run_length = single ? int((layout.steps + runs - 1) / runs) : kShortRun;
  const int64_t tile = int64_t(runs) * run_length;
  const int64_t tiles = (layout.steps + tile - 1) / tile;

  int64_t used = 0;
  const auto take = [&](int64_t bytes) {
    char* at = scratch == nullptr ? nullptr : scratch + used;
    used += (bytes + 15) / 16 * 16;
    return at;
  };
  *plan = {layout.steps, layout.envs, lanes, runs, run_length, tiles, nullptr, nullptr, nullptr};
  if (tiles > 1) {
    plan->maps =
        reinterpret_cast<Affine<N>*>(take(tiles * layout.envs * int64_t(sizeof(Affine<N>))));
    plan->carries = reinterpret_cast<N*>(take(tiles * layout.envs * int64_t(sizeof(N))));
  }
  if (layout.segments > 1) {
    *bounds = reinterpret_cast<int64_t*>(take((layout.segments + 1) * int64_t(sizeof(int64_t))));
    plan->ends = reinterpret_cast<bool*>(take(layout.steps));
  }
  return used;
}

template <typename Op>
int64_t recurrence_scratch(const RolloutLayout& layout) {
  RecurrencePlan<typename Op::Number> plan;
  int64_t* bounds = nullptr;
  return plan_recurrence(layout, nullptr, &plan, &bounds);
}

template <typename Op>
void launch_recurrence(const Op& op, const RolloutLayout& layout, void* scratch,
                       CudaStream stream) {
  using N = typename Op::Number;
  RecurrencePlan<N> plan;
  int64_t* bounds = nullptr;
  plan_recurrence(layout, static_cast<char*>(scratch), &plan, &bounds);

  const auto blocks = [](int64_t count) {
    return unsigned((count + kRecurrenceThreads - 1) / kRecurrenceThreads);
  };
  if (plan.ends != nullptr) {
    copy_to_device(bounds, layout.bounds, (layout.segments + 1) * int64_t(sizeof(int64_t)), stream);
    MF_LAUNCH(recurrence_clear, blocks(plan.steps), kRecurrenceThreads, stream, plan.ends,
              plan.steps);
    MF_LAUNCH(recurrence_mark, blocks(layout.segments), kRecurrenceThreads, stream, plan.ends,
              bounds, layout.segments);
  }
  const unsigned columns = unsigned((plan.envs + plan.lanes - 1) / plan.lanes);
  const dim3 grid(columns, unsigned(plan.tiles));
  if (plan.tiles > 1) {
    MF_LAUNCH((recurrence_maps<Op, N>), grid, kRecurrenceThreads, stream, op, plan);
    MF_LAUNCH(recurrence_carries<N>, columns, kRecurrenceThreads, stream, plan);
  }
  MF_LAUNCH((recurrence_results<Op, N>), grid, kRecurrenceThreads, stream, op, plan);
}

}  // namespace machin_fast

// Makes the estimator Op callable on CUDA.
#define MF_RECURRENCE_CUDA(Op)                                                           \
  template int64_t machin_fast::recurrence_scratch<machin_fast::Op<float>>(              \
      const machin_fast::RolloutLayout&);                                                \
  template int64_t machin_fast::recurrence_scratch<machin_fast::Op<double>>(             \
      const machin_fast::RolloutLayout&);                                                \
  template void machin_fast::launch_recurrence(const machin_fast::Op<float>&,            \
                                               const machin_fast::RolloutLayout&, void*, \
                                               machin_fast::CudaStream);                 \
  template void machin_fast::launch_recurrence(const machin_fast::Op<double>&,           \
                                               const machin_fast::RolloutLayout&, void*, \
                                               machin_fast::CudaStream)
