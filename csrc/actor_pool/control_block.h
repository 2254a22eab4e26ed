// What a dispatcher and its workers share: for each worker a ring of posts and a ring of answers,
// and the words they sleep on. Every counter has one writer and only grows, so that a process may
// die at any instruction without leaving anything half done: what is not published was never there.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace machin_fast {

inline constexpr size_t kLine = 64;

// "A message waits in your pipe": stands in a ring of posts among the ids of environments.
inline constexpr int32_t kCall = -1;
// Calls that a worker may leave lying; as many, and each environment once, always fit its ring.
inline constexpr int64_t kMostCalls = 16;

struct Answer {
  int32_t env;
  int32_t flag;
};

// A lock-free word on which one process sleeps and others wake it. The sleeper says that it will
// sleep, then looks at what it waits for a last time; the others publish, then look at whether it
// sleeps. All of that is sequentially consistent, so at least one of them sees the other.
struct alignas(kLine) Bed {
  std::atomic<uint32_t> asleep{0};
};

struct alignas(kLine) Shared {
  uint64_t magic;
  int64_t num_envs;
  int64_t num_workers;
  // The dispatcher closed: workers end.
  std::atomic<uint32_t> closed{0};
  // The dispatcher sleeps until so many answers were given, all workers together.
  std::atomic<uint64_t> wanted{0};
  Bed bed;
};

struct alignas(kLine) WorkerShared {
  alignas(kLine) std::atomic<uint64_t> posted{0};  // by the dispatcher
  alignas(kLine) std::atomic<uint64_t> taken{0};   // by the worker, likewise the next two
  std::atomic<int64_t> heartbeat{0};               // ns of Clock; 0 before the first
  alignas(kLine) std::atomic<uint64_t> answered{0};
  Bed bed;
};

// A view of the block; it owns nothing.
class ControlBlock {
 public:
  static size_t size(int64_t num_envs, int64_t num_workers);
  // Refuses numbers that are not positive or beyond what a block can have.
  static void check(const char* op, int64_t num_envs, int64_t num_workers);

  // A block that another process made. Throws std::invalid_argument if its numbers are others.
  ControlBlock(const char* op, std::byte* memory, int64_t num_envs, int64_t num_workers);
  static ControlBlock create(std::byte* memory, int64_t num_envs, int64_t num_workers);

  Shared& shared() const { return *reinterpret_cast<Shared*>(memory_); }
  WorkerShared& worker(int64_t worker) const {
    return reinterpret_cast<WorkerShared*>(memory_ + sizeof(Shared))[worker];
  }
  // Powers of two in length; the slot of a count is that count modulo the length.
  std::span<int32_t> posts(int64_t worker) const;
  std::span<Answer> answers(int64_t worker) const;

  // Answers given so far, all workers together.
  uint64_t answered() const;

 private:
  ControlBlock(std::byte* memory, int64_t num_envs, int64_t num_workers);

  std::byte* memory_;
  int64_t num_workers_;
  size_t posts_length_;
  size_t answers_length_;
};

}  // namespace machin_fast
