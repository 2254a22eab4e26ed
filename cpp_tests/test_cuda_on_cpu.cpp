#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "core/cuda_launch.h"
#include "core/host_device.h"
#include "cuda_on_cpu.h"

namespace machin_fast {
namespace {

constexpr CudaStream kStream = nullptr;

// Hillis-Steele; `kBarriers` = false leaves out the one between reading and writing.
template <typename T, int kThreads, bool kBarriers = true>
__global__ void __launch_bounds__(kThreads) scan(const T* __restrict__ in, T* __restrict__ out) {
  __shared__ T tile[kThreads];
  const unsigned t = threadIdx.x;
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + t;
  tile[t] = __ldg(in + i);
  __syncthreads();
  for (unsigned d = 1; d < kThreads; d *= 2) {
    const T before = t >= d ? tile[t - d] : T(0);
    if (kBarriers) __syncthreads();
    tile[t] += before;
    __syncthreads();
  }
  out[i] = tile[t];
}

template <int kThreads, bool kBarriers>
std::vector<int> scanned(int blocks) {
  std::vector<int> in(blocks * kThreads), out(in.size(), -1);
  std::iota(in.begin(), in.end(), 1);
  MF_LAUNCH(scan<int, kThreads, kBarriers>, blocks, kThreads, kStream, in.data(), out.data());
  return out;
}

template <int kThreads>
std::vector<int> scanned_by_hand(int blocks) {
  std::vector<int> out(blocks * kThreads);
  for (int i = 0; i < int(out.size()); ++i) out[i] = i + 1 + (i % kThreads ? out[i - 1] : 0);
  return out;
}

TEST(CudaOnCpu, ABlockScanAgreesUnderEveryOrder) {
  cuda_on_cpu::for_each_order([] {
    EXPECT_EQ((scanned<1, true>(3)), scanned_by_hand<1>(3));
    EXPECT_EQ((scanned<33, true>(3)), scanned_by_hand<33>(3));
    EXPECT_EQ((scanned<1024, true>(2)), scanned_by_hand<1024>(2));
  });
}

TEST(CudaOnCpu, AMissingBarrierShowsUnderSomeOrder) {
  const auto want = scanned_by_hand<64>(2);
  std::vector<bool> right;
  cuda_on_cpu::for_each_order([&] { right.push_back(scanned<64, false>(2) == want); });
  EXPECT_FALSE(right[0]);
  // Backward, each thread happens to read before its neighbour writes.
  EXPECT_TRUE(right[1]);
}

__global__ void race_for_a_cell(int* out) {
  __shared__ int tile[8];
  tile[threadIdx.x] = int(threadIdx.x);
  out[threadIdx.x] = tile[0];
  tile[0] = 100;
}

TEST(CudaOnCpu, OrderDecidesWhoReadsARacyCell) {
  int out[8];
  cuda_on_cpu::order = {cuda_on_cpu::Order::kForward};
  MF_LAUNCH(race_for_a_cell, 1, 8, kStream, out);
  const int forward = out[7];
  cuda_on_cpu::order = {cuda_on_cpu::Order::kBackward};
  MF_LAUNCH(race_for_a_cell, 1, 8, kStream, out);
  cuda_on_cpu::order = {};
  EXPECT_EQ(forward, 100);
  EXPECT_EQ(out[0], 0);
}

template <typename T>
__global__ void warp_sums(const T* in, T* by_down, T* by_xor, int n) {
  const int t = int(threadIdx.x), lane = t % warpSize, warp = t / warpSize;
  const unsigned there = __ballot_sync(~0u, t < n);
  T down = t < n ? in[t] : T(0), crossed = down;
  for (int d = warpSize / 2; d > 0; d /= 2) {
    const T other = __shfl_down_sync(~0u, down, d);
    if (lane + d < warpSize) down += other;
    crossed += __shfl_xor_sync(~0u, crossed, d);
  }
  if (lane == 0) by_down[warp] = there ? down : T(-1);
  // The last lane, to see that xor gives the sum to all.
  if (lane == warpSize - 1) by_xor[warp] = there ? crossed : T(-1);
}

template <typename T>
void expect_warp_sums() {
  constexpr int kThreads = 128, kUsed = 70;
  std::vector<T> in(kUsed), down(4), crossed(4);
  std::iota(in.begin(), in.end(), T(1));
  MF_LAUNCH(warp_sums<T>, 1, kThreads, kStream, in.data(), down.data(), crossed.data(), kUsed);
  const std::vector<T> want{T(32 * 33 / 2), T(64 * 65 / 2 - 32 * 33 / 2),
                            T(70 * 71 / 2 - 64 * 65 / 2), T(-1)};
  EXPECT_EQ(down, want);
  EXPECT_EQ(crossed, want);
}

TEST(CudaOnCpu, WarpReductionsAgreeForEveryType) {
  cuda_on_cpu::for_each_order([] {
    expect_warp_sums<int>();
    expect_warp_sums<float>();
    expect_warp_sums<double>();
    expect_warp_sums<long long>();
  });
}

struct Shuffled {
  int index, up, down, crossed, votes, any, all;
  bool operator==(const Shuffled&) const = default;
};

__global__ void shuffle_segments(Shuffled* out) {
  const int t = int(threadIdx.x);
  Shuffled s{};
  s.index = __shfl_sync(~0u, t, 9, 8);
  s.up = __shfl_up_sync(~0u, t, 3, 8);
  s.down = __shfl_down_sync(~0u, t, 3, 8);
  s.crossed = __shfl_xor_sync(~0u, t, 9, 8);
  // Odd and even lanes vote apart, in an order of their own.
  const unsigned odd = 0xaaaaaaaa, mine = t % 2 ? odd : ~odd;
  s.votes = int(__ballot_sync(mine, t % 3 == 0));
  __syncwarp(mine);
  s.any = __any_sync(mine, t == 5);
  s.all = __all_sync(mine, t % 2 == 1);
  out[t] = s;
}

TEST(CudaOnCpu, ShufflesAndVotesKeepToSegmentsAndMasks) {
  cuda_on_cpu::for_each_order([] {
    std::vector<Shuffled> got(32);
    MF_LAUNCH(shuffle_segments, 1, 32, kStream, got.data());
    for (int t = 0; t < 32; ++t) {
      const int first = t / 8 * 8, crossed = t ^ 9;
      int votes = 0;
      for (int lane = t % 2; lane < 32; lane += 2) votes |= int(unsigned(lane % 3 == 0) << lane);
      const Shuffled want{.index = first + 1,
                          .up = t % 8 >= 3 ? t - 3 : t,
                          .down = t % 8 < 5 ? t + 3 : t,
                          .crossed = crossed < first + 8 ? crossed : t,
                          .votes = votes,
                          .any = t % 2,
                          .all = t % 2};
      EXPECT_TRUE(got[t] == want) << "lane " << t;
    }
  });
}

// A lane reads from its upper neighbour, which in lane 5 has returned and in lane 9 never was.
__global__ void read_absent_lanes(int* out) {
  if (threadIdx.x == 6) return;
  out[threadIdx.x] = __shfl_down_sync(~0u, int(threadIdx.x), 1);
}

TEST(CudaOnCpu, AbsentLanesAreNotWaitedForAndReadAsNonsense) {
  cuda_on_cpu::for_each_order([] {
    std::vector<int> out(10, -1);
    MF_LAUNCH(read_absent_lanes, 1, 10, kStream, out.data());
    EXPECT_EQ(out, (std::vector<int>{1, 2, 3, 4, 5, 0x7f7f7f7f, -1, 8, 9, 0x7f7f7f7f}));
  });
}

struct Totals {
  int sum = 0, top = -1, bottom = 1 << 30;
  unsigned bits = 0, last = 0;
  unsigned long long count = 0;
  float halves = 0;
  double quarters = 0;
  float by_cas = 0;
};

__global__ void total(Totals* out) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&out->sum, i);
  atomicMax(&out->top, i);
  atomicMin(&out->bottom, i);
  atomicOr(&out->bits, 1u << i % 20);
  atomicExch(&out->last, 7);
  atomicAdd(&out->count, 1);
  atomicAdd(&out->halves, 0.5f);
  atomicAdd(&out->quarters, 0.25);
  auto* word = reinterpret_cast<unsigned*>(&out->by_cas);
  unsigned seen = __float_as_uint(out->by_cas), before;
  do {
    before = seen;
    seen = atomicCAS(word, before, __float_as_uint(__uint_as_float(before) + 1));
  } while (seen != before);
}

TEST(CudaOnCpu, AtomicsAddUpOverManyBlocks) {
  cuda_on_cpu::for_each_order([] {
    Totals out;
    MF_LAUNCH(total, 100, 96, kStream, &out);
    EXPECT_EQ(out.sum, 9600 * 9599 / 2);
    EXPECT_EQ(out.top, 9599);
    EXPECT_EQ(out.bottom, 0);
    EXPECT_EQ(out.bits, (1u << 20) - 1);
    EXPECT_EQ(out.last, 7u);
    EXPECT_EQ(out.count, 9600u);
    EXPECT_EQ(out.halves, 4800);
    EXPECT_EQ(out.quarters, 2400);
    EXPECT_EQ(out.by_cas, 9600);
  });
}

// Not atomic as a whole: another thread may come between the two lines.
__global__ void count_badly(int* count, int* ignored) {
  const int seen = *count;
  atomicAdd(ignored, 1);
  *count = seen + 1;
}

TEST(CudaOnCpu, AShuffleLetsOthersInBeforeAnAtomic) {
  int count = 0, ignored = 0;
  cuda_on_cpu::order = {cuda_on_cpu::Order::kShuffle, 3};
  MF_LAUNCH(count_badly, 1, 64, kStream, &count, &ignored);
  cuda_on_cpu::order = {};
  EXPECT_LT(count, 64);
  EXPECT_EQ(ignored, 64);
}

__global__ void number(int* out, int* visits) {
  const unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
  const unsigned z = blockIdx.z * blockDim.z + threadIdx.z;
  const unsigned width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
  const unsigned i = (z * height + y) * width + x;
  out[i] = int(i);
  ++visits[i];
}

TEST(CudaOnCpu, GridsAndBlocksOfThreeDimensionsVisitEachThreadOnce) {
  cuda_on_cpu::for_each_order([] {
    std::vector<int> out(15 * 8 * 4, -1), visits(out.size(), 0), want(out.size());
    std::iota(want.begin(), want.end(), 0);
    MF_LAUNCH(number, dim3(3, 4, 2), dim3(5, 2, 2), kStream, out.data(), visits.data());
    EXPECT_EQ(out, want);
    EXPECT_EQ(visits, std::vector<int>(out.size(), 1));
  });
}

__global__ void first_block(unsigned* out) {
  if (*out == ~0u) *out = blockIdx.x;
}

TEST(CudaOnCpu, BlocksFollowTheOrderToo) {
  unsigned out = ~0u;
  cuda_on_cpu::order = {cuda_on_cpu::Order::kBackward};
  MF_LAUNCH(first_block, 9, 1, kStream, &out);
  cuda_on_cpu::order = {};
  EXPECT_EQ(out, 8u);
}

TEST(CudaOnCpu, AnEmptyGridLaunchesNothing) {
  int untouched = 3;
  const std::int64_t blocks = 0;
  MF_LAUNCH(number, blocks, 32, kStream, &untouched, nullptr);
  MF_LAUNCH(number, dim3(4, 0, 1), 32, kStream, &untouched, nullptr);
  EXPECT_EQ(untouched, 3);
}

template <typename T, typename U>
__global__ void convert(U* out, T value) {
  *out = U(value);
}

TEST(CudaOnCpu, ArgumentsConvertToTheKernelsParameters) {
  double out = 0;
  MF_LAUNCH(convert<float, double>, 1, 1, kStream, &out, 3);
  EXPECT_EQ(out, 3);
  MF_LAUNCH((convert<double, double>), 1, 1, kStream, &out, 4.5f);
  EXPECT_EQ(out, 4.5);
}

MF_HD int twice(int x) {
  return 2 * x;
}

__global__ void copy_wide(const float4* in, int4* out) {
  const float4 v = in[threadIdx.x];
  out[threadIdx.x] = make_int4(twice(int(v.x)), twice(int(v.y)), int(v.z), int(v.w));
}

TEST(CudaOnCpu, WideLoadsAndStoresMoveFourValues) {
  alignas(16) float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  int4 out[2];
  MF_LAUNCH(copy_wide, 1, 2, kStream, reinterpret_cast<const float4*>(in), out);
  EXPECT_EQ(out[1].x, 10);
  EXPECT_EQ(out[1].w, 8);
  EXPECT_EQ(sizeof(float2) + sizeof(double2) + sizeof(uint4), 40u);
}

TEST(CudaOnCpu, BitIntrinsicsAgreeWithCuda) {
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__float_as_int(1.0f), 0x3f800000);
  EXPECT_EQ(__int_as_float(0x3f800000), 1.0f);
  EXPECT_EQ(__longlong_as_double(__double_as_longlong(-2.5)), -2.5);
}

using CudaOnCpuDeathTest = testing::Test;

__global__ void half_a_barrier() {
  if (threadIdx.x < 16) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void half_a_warp() {
  if (threadIdx.x < 16) {
    __shfl_sync(~0u, 1, 0);
  } else {
    __syncwarp();
  }
}

__global__ void barrier_against_warp() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

__global__ void other_halfs_mask() {
  __syncwarp(threadIdx.x < 16 ? 0xffff0000 : 0xffff);
}

TEST(CudaOnCpuDeathTest, ABarrierThatOnlySomeReachAborts) {
  cuda_on_cpu::for_each_order([] {
    EXPECT_DEATH(MF_LAUNCH(half_a_barrier, 1, 32, kStream),
                 "block \\(0, 0, 0\\) of launch \\[half_a_barrier, 1, 32, kStream\\]");
  });
  EXPECT_DEATH(MF_LAUNCH(half_a_barrier, 1, 32, kStream), "16 threads, first \\(16, 0, 0\\): ret");
}

TEST(CudaOnCpuDeathTest, DifferentBarriersInOneBlockAbort) {
  EXPECT_DEATH(MF_LAUNCH(two_barriers, 1, 32, kStream), "wait at different barriers");
}

TEST(CudaOnCpuDeathTest, AWarpOperationThatLanesDoNotShareAborts) {
  EXPECT_DEATH(MF_LAUNCH(half_a_warp, 1, 32, kStream), "__shfl_sync, .*mask 0xffffffff");
  EXPECT_DEATH(MF_LAUNCH(barrier_against_warp, 1, 32, kStream), "threads that never come");
  EXPECT_DEATH(MF_LAUNCH(other_halfs_mask, 1, 32, kStream), "not in its own mask");
}

TEST(CudaOnCpuDeathTest, SizesThatNoGpuHasAbort) {
  EXPECT_DEATH(MF_LAUNCH(two_barriers, 1, 1025, kStream), "no GPU has such a block");
  EXPECT_DEATH(MF_LAUNCH(two_barriers, dim3(1, 65536), 32, kStream), "no GPU has such a grid");
}

}  // namespace
}  // namespace machin_fast
