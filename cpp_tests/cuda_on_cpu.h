#pragma once

// Runs CUDA kernels on the CPU, so that the ordinary C++ tests can check their logic on machines
// without a GPU. The same `.cu` is compiled a second time, as C++20:
//   g++ -std=c++20 -x c++ -include cpp_tests/cuda_on_cpu.h -DMF_CUDA_ON_CPU -c csrc/ops/gae.cu
//
// Blocks run one after another; each thread of a block is a fiber that runs until it waits for
// others. So a missing barrier shows as a result that depends on the order in which threads run:
// call each kernel inside for_each_order. What CUDA leaves undefined, such as a barrier that only
// some threads of a block reach, aborts with a message that says who waits where.
//
// Not seen: what memory order between running blocks does, and reads of shared memory that was
// never written (it holds what the block before left). A thread that spins on another may hang.

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <source_location>
#include <span>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(MF_CUDA_ON_CPU)
#define MF_CUDA_ON_CPU
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// One copy serves all blocks, since only one runs at a time.
#define __shared__ static

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace cuda_on_cpu {

// The order of the blocks of a grid, and of the threads of a block between two waits. A shuffle
// draws anew for each round, and also lets other threads in before an atomic.
struct Order {
  enum Kind { kForward, kBackward, kShuffle } kind = kForward;
  std::uint64_t seed = 0;
};
inline constexpr Order kOrders[] = {
    {Order::kForward}, {Order::kBackward}, {Order::kShuffle, 1}, {Order::kShuffle, 2}};
inline Order order;

// Calls body() under each of kOrders.
template <typename Body>
void for_each_order(Body&& body) {
  const Order before = order;
  for (const Order& each : kOrders) {
    order = each;
    body();
  }
  order = before;
}

using Site = std::source_location;

struct Fiber {
  enum State { kReady, kWaitsForBlock, kWaitsForWarp, kReturned } state = kReturned;
  ucontext_t context;
  char* stack = nullptr;
  unsigned number;  // in the block; lane number % 32 of warp number / 32
  uint3 index{};

  // What it waits for, and where. `mask` becomes the lanes that came, `taken` what they gave: a
  // copy for each lane, as its neighbours may give for the next operation before it reads.
  const char* operation;
  Site site;
  unsigned mask;
  std::uint64_t given;
  std::array<std::uint64_t, 32> taken;
};

class Engine {
 public:
  void run(const char* launch, dim3 grid, dim3 block, const std::function<void()>& kernel) {
    const std::uint64_t blocks = std::uint64_t(grid.x) * grid.y * grid.z;
    const std::uint64_t threads = std::uint64_t(block.x) * block.y * block.z;
    if (blocks == 0) return;
    launch_ = launch;
    size_ = 0;
    blockIdx = {0, 0, 0};
    if (threads == 0 || threads > kMaxThreads || block.z > 64) fail("no GPU has such a block");
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) fail("no GPU has such a grid");
    size_ = unsigned(threads);
    kernel_ = &kernel;
    gridDim = grid;
    blockDim = block;
    random_.seed(order.seed);
    std::vector<std::uint64_t> turns(blocks);
    arrange(turns);
    for (const std::uint64_t b : turns) {
      const std::uint64_t row = b / grid.x;
      blockIdx = {unsigned(b % grid.x), unsigned(row % grid.y), unsigned(row / grid.y)};
      run_block();
    }
  }

  // Returns the calling fiber when the threads that it waits for, all of its block or the lanes
  // of `mask`, have called the same operation.
  const Fiber& wait(Fiber::State state, const char* operation, Site site, unsigned mask = 0,
                    std::uint64_t given = 0) {
    Fiber& self = *current_;
    self.operation = operation;
    self.site = site;
    self.mask = mask;
    self.given = given;
    stop(state);
    return self;
  }

  void let_others_in() {
    if (order.kind == Order::kShuffle && random_() % 2) stop(Fiber::kReady);
  }

 private:
  static constexpr unsigned kMaxThreads = 1024;
  static constexpr std::size_t kStackBytes = 64 << 10, kGuardBytes = 64 << 10;
  // What a lane that does not take part seems to give. On a GPU the value is undefined; this one
  // is huge in every type, so that it spoils sums and maxima.
  static constexpr std::uint64_t kNothing = 0x7f7f7f7f7f7f7f7f;

  template <typename Int>
  void arrange(std::vector<Int>& turns) {
    std::iota(turns.begin(), turns.end(), Int(0));
    if (order.kind == Order::kBackward) std::reverse(turns.begin(), turns.end());
    if (order.kind == Order::kShuffle) std::shuffle(turns.begin(), turns.end(), random_);
  }

  void run_block() {
    for (unsigned t = 0; t < size_; ++t) {
      const unsigned row = t / blockDim.x;
      if (!fibers_[t].stack) create(fibers_[t]);
      fibers_[t].state = Fiber::kReady;
      fibers_[t].number = t;
      fibers_[t].index = {t % blockDim.x, row % blockDim.y, row / blockDim.y};
    }
    returned_ = at_barrier_ = 0;
    std::vector<unsigned> turns(size_);
    while (returned_ < size_) {
      bool stuck = true;
      arrange(turns);
      for (const unsigned t : turns) {
        if (fibers_[t].state != Fiber::kReady) continue;
        stuck = false;
        resume(fibers_[t]);
        release_after(fibers_[t]);
      }
      if (stuck) fail("threads wait for threads that never come");
    }
  }

  // Releases the threads that waited for what this one has just done.
  void release_after(const Fiber& fiber) {
    if (fiber.state == Fiber::kReturned) {
      ++returned_;
      for (Fiber& lane : warp_of(fiber)) {
        if (lane.state == Fiber::kWaitsForWarp) release_warp(lane);
      }
    }
    if (fiber.state == Fiber::kWaitsForWarp) release_warp(fiber);
    // Threads that have returned do not count: newer GPUs let it pass, CUDA promises nothing.
    if (fiber.state != Fiber::kWaitsForBlock || ++at_barrier_ < size_) return;
    at_barrier_ = 0;
    const std::span block(&fibers_[0], size_);
    for (const Fiber& other : block) {
      if (other.site.line() != fiber.site.line() ||
          std::strcmp(other.site.file_name(), fiber.site.file_name())) {
        fail("threads wait at different barriers");
      }
    }
    for (Fiber& other : block) other.state = Fiber::kReady;
  }

  // CUDA's rule: all lanes of the mask that have not returned must come to the same operation
  // with the same mask, though not at the same line.
  void release_warp(const Fiber& fiber) {
    if (!(fiber.mask >> fiber.number % 32 & 1)) fail("a thread is not in its own mask");
    unsigned came = 0;
    decltype(fiber.taken) given;
    given.fill(kNothing);
    for (const Fiber& lane : warp_of(fiber)) {
      const unsigned bit = 1u << lane.number % 32;
      if (!(fiber.mask & bit) || lane.state == Fiber::kReturned) continue;
      if (lane.state != Fiber::kWaitsForWarp || lane.mask != fiber.mask ||
          std::strcmp(lane.operation, fiber.operation)) {
        return;
      }
      came |= bit;
      given[lane.number % 32] = lane.given;
    }
    for (Fiber& lane : warp_of(fiber)) {
      if (!(came >> lane.number % 32 & 1)) continue;
      lane.state = Fiber::kReady;
      lane.mask = came;
      lane.taken = given;
    }
  }

  std::span<Fiber> warp_of(const Fiber& fiber) {
    const unsigned first = fiber.number / 32 * 32;
    return {&fibers_[first], std::min(32u, size_ - first)};
  }

  void create(Fiber& fiber) {
    void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
    // Too small a stack then crashes, instead of writing into a neighbour's.
    mprotect(memory, kGuardBytes, PROT_NONE);
    fiber.stack = static_cast<char*>(memory) + kGuardBytes;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStackBytes;
    makecontext(&fiber.context, &Engine::live, 0);
    // Only makecontext needs the size; ASan would wipe its notes on so much stack at each switch.
    fiber.context.uc_stack.ss_size = 0;
  }

  static void live();  // what a fiber does: one thread after another, without end

  void resume(Fiber& fiber) {
    current_ = &fiber;
    threadIdx = fiber.index;
    switch_to(fiber.context, scheduler_, fiber.stack, kStackBytes);
  }

  void stop(Fiber::State state) {
    current_->state = state;
    switch_to(scheduler_, current_->context, left_stack_, left_bytes_);
  }

  // ASan has to hear of each change of stack, before and after it. Afterwards it tells which
  // stack was left: for a fiber, the scheduler's.
  void switch_to(ucontext_t& to, ucontext_t& from, [[maybe_unused]] const void* stack,
                 [[maybe_unused]] std::size_t bytes) {
    void* fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack, stack, bytes);
#endif
    swapcontext(&from, &to);
    arrive(fake_stack);
  }

  void arrive([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, &left_stack_, &left_bytes_);
#endif
  }

  [[noreturn]] void fail(const char* problem) const {
    const auto text = [](uint3 at) {
      std::ostringstream out;
      out << '(' << at.x << ", " << at.y << ", " << at.z << ')';
      return out.str();
    };
    std::map<std::string, std::pair<int, uint3>> groups;  // doing what: how many, and the first
    for (const Fiber& fiber : std::span(&fibers_[0], size_)) {
      std::ostringstream doing;
      if (fiber.state == Fiber::kReturned) {
        doing << "returned";
      } else if (fiber.state == Fiber::kReady) {
        doing << "running";
      } else {
        doing << "in " << fiber.operation << ", " << fiber.site.file_name() << ':'
              << fiber.site.line();
        if (fiber.state == Fiber::kWaitsForWarp) doing << ", mask 0x" << std::hex << fiber.mask;
      }
      ++groups.try_emplace(doing.str(), 0, fiber.index).first->second.first;
    }
    std::cerr << "cuda_on_cpu: block " << text(blockIdx) << " of launch [" << launch_
              << "]: " << problem << '\n';
    for (const auto& [doing, who] : groups) {
      std::cerr << "  " << who.first << " threads, first " << text(who.second) << ": " << doing
                << '\n';
    }
    std::abort();
  }

  std::unique_ptr<Fiber[]> fibers_{new Fiber[kMaxThreads]};  // a ucontext_t must not move
  Fiber* current_ = nullptr;
  ucontext_t scheduler_{};
  const void* left_stack_ = nullptr;
  std::size_t left_bytes_ = 0;
  std::mt19937_64 random_;
  const char* launch_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  unsigned size_ = 0, returned_ = 0, at_barrier_ = 0;
};

inline Engine engine;

inline void Engine::live() {
  engine.arrive(nullptr);
  for (;;) {
    (*engine.kernel_)();
    engine.stop(Fiber::kReturned);
  }
}

// What MF_LAUNCH of csrc/core/cuda_launch.h becomes; `text` is its arguments as written.
template <typename... Params>
void launch(const char* text, void (*kernel)(Params...), dim3 grid, dim3 block, void* /*stream*/,
            std::type_identity_t<Params>... args) {
  engine.run(text, grid, block, [&] { kernel(args...); });
}

// The lane mask of a warp operation. The conversion notes who called.
struct Mask {
  unsigned lanes;
  Site site;
  Mask(unsigned lanes, Site site = Site::current()) : lanes(lanes), site(site) {}
};

// source(lane, first) is the lane to read from; `first` begins the segment of `width` lanes.
template <typename T, typename Source>
T shuffle(const char* operation, Mask mask, T value, int width, Source source) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const Fiber& self = engine.wait(Fiber::kWaitsForWarp, operation, mask.site, mask.lanes, bits);
  const int lane = int(self.number % 32);
  std::memcpy(&value, &self.taken[source(lane, lane & -width)], sizeof(T));
  return value;
}

inline unsigned ballot(const char* operation, Mask mask, bool vote) {
  const Fiber& self = engine.wait(Fiber::kWaitsForWarp, operation, mask.site, mask.lanes, vote);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= unsigned(self.taken[lane] & 1) << lane;
  return votes & self.mask;
}

template <typename T, typename Update>
T atomic(T* address, Update update) {
  engine.let_others_in();
  const T old = *address;
  *address = update(old);
  return old;
}

// CUDA's atomics exist for some types only, and their operands convert to the type pointed to.
template <typename T, typename... Types>
concept AnyOf = (std::same_as<T, Types> || ...);
template <typename T>
concept Word = AnyOf<T, int, unsigned, unsigned long long>;
template <typename T>
using As = std::type_identity_t<T>;

}  // namespace cuda_on_cpu

inline void __syncthreads(cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) {
  cuda_on_cpu::engine.wait(cuda_on_cpu::Fiber::kWaitsForBlock, "__syncthreads", site);
}
inline void __syncwarp(unsigned mask = ~0u, cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) {
  cuda_on_cpu::ballot("__syncwarp", {mask, site}, false);
}
inline void __threadfence() {}

template <typename T>
T __shfl_sync(cuda_on_cpu::Mask mask, T value, int source, int width = 32) {
  const auto from = [&](int, int first) { return first + (source & (width - 1)); };
  return cuda_on_cpu::shuffle("__shfl_sync", mask, value, width, from);
}
template <typename T>
T __shfl_up_sync(cuda_on_cpu::Mask mask, T value, unsigned delta, int width = 32) {
  const int d = int(delta);
  const auto from = [&](int lane, int first) { return lane - d >= first ? lane - d : lane; };
  return cuda_on_cpu::shuffle("__shfl_up_sync", mask, value, width, from);
}
template <typename T>
T __shfl_down_sync(cuda_on_cpu::Mask mask, T value, unsigned delta, int width = 32) {
  const int d = int(delta);
  const auto from = [&](int lane, int first) { return lane + d < first + width ? lane + d : lane; };
  return cuda_on_cpu::shuffle("__shfl_down_sync", mask, value, width, from);
}
template <typename T>
T __shfl_xor_sync(cuda_on_cpu::Mask mask, T value, int bits, int width = 32) {
  // As CUDA has it: an earlier segment may be read, a later one not.
  const auto from = [&](int lane, int first) {
    return (lane ^ bits) < first + width ? lane ^ bits : lane;
  };
  return cuda_on_cpu::shuffle("__shfl_xor_sync", mask, value, width, from);
}
inline unsigned __ballot_sync(cuda_on_cpu::Mask mask, int vote) {
  return cuda_on_cpu::ballot("__ballot_sync", mask, vote != 0);
}
inline int __any_sync(cuda_on_cpu::Mask mask, int vote) {
  return cuda_on_cpu::ballot("__any_sync", mask, vote != 0) != 0;
}
inline int __all_sync(cuda_on_cpu::Mask mask, int vote) {
  return cuda_on_cpu::ballot("__all_sync", mask, vote == 0) == 0;
}

template <cuda_on_cpu::AnyOf<int, unsigned, unsigned long long, float, double> T>
T atomicAdd(T* address, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T old) { return old + value; });
}
template <cuda_on_cpu::AnyOf<int, unsigned, long long, unsigned long long> T>
T atomicMax(T* address, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T old) { return std::max(old, value); });
}
template <cuda_on_cpu::AnyOf<int, unsigned, long long, unsigned long long> T>
T atomicMin(T* address, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T old) { return std::min(old, value); });
}
template <cuda_on_cpu::AnyOf<int, unsigned, unsigned long long, float> T>
T atomicExch(T* address, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T) { return value; });
}
template <cuda_on_cpu::Word T>
T atomicCAS(T* address, cuda_on_cpu::As<T> expected, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T old) { return old == expected ? value : old; });
}
template <cuda_on_cpu::Word T>
T atomicOr(T* address, cuda_on_cpu::As<T> value) {
  return cuda_on_cpu::atomic(address, [&](T old) { return old | value; });
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline unsigned __float_as_uint(float value) {
  return std::bit_cast<unsigned>(value);
}
inline float __uint_as_float(unsigned value) {
  return std::bit_cast<float>(value);
}
inline int __float_as_int(float value) {
  return std::bit_cast<int>(value);
}
inline float __int_as_float(int value) {
  return std::bit_cast<float>(value);
}
inline long long __double_as_longlong(double value) {
  return std::bit_cast<long long>(value);
}
inline double __longlong_as_double(long long value) {
  return std::bit_cast<double>(value);
}
inline int __popc(unsigned value) {
  return std::popcount(value);
}
inline int __ffs(int value) {
  return __builtin_ffs(value);
}
inline int __clz(int value) {
  return std::countl_zero(unsigned(value));
}

// Aligned as on the GPU, so that UBSan reports a wide load from a narrow address.
#define MF_VECTOR2(name, T)            \
  struct alignas(2 * sizeof(T)) name { \
    T x, y;                            \
  };                                   \
  inline name make_##name(T x, T y) {  \
    return {x, y};                     \
  }
#define MF_VECTOR4(name, T)                     \
  struct alignas(16) name {                     \
    T x, y, z, w;                               \
  };                                            \
  inline name make_##name(T x, T y, T z, T w) { \
    return {x, y, z, w};                        \
  }
MF_VECTOR2(float2, float)
MF_VECTOR2(double2, double)
MF_VECTOR4(float4, float)
MF_VECTOR4(int4, int)
MF_VECTOR4(uint4, unsigned)
#undef MF_VECTOR2
#undef MF_VECTOR4
