#include "actor_pool/control_block.h"

#include <memory>
#include <new>

#include "actor_pool/require.h"

namespace machin_fast {
namespace {

constexpr uint64_t kMagic = 0x6d665f706f6f6c31;  // "mf_pool1"
constexpr int64_t kMost = int64_t(1) << 20;

size_t posts_length(int64_t num_envs) {
  // A call is posted onto at most num_envs + kMostCalls - 1 others, and steps may follow it.
  return std::bit_ceil(size_t(2 * num_envs + kMostCalls));
}

size_t answers_length(int64_t num_envs) {
  return std::bit_ceil(size_t(num_envs));
}

size_t lines(size_t bytes) {
  return (bytes + kLine - 1) / kLine * kLine;
}

}  // namespace

void ControlBlock::check(const char* op, int64_t num_envs, int64_t num_workers) {
  MF_REQUIRE(num_envs > 0 && num_envs <= kMost, op, ": num_envs must be in [1, ", kMost, "], got ",
             num_envs);
  MF_REQUIRE(num_workers > 0 && num_workers <= num_envs, op,
             ": num_workers must be in [1, num_envs], got ", num_workers);
}

size_t ControlBlock::size(int64_t num_envs, int64_t num_workers) {
  const size_t rings = lines(posts_length(num_envs) * sizeof(int32_t)) +
                       lines(answers_length(num_envs) * sizeof(Answer));
  return sizeof(Shared) + size_t(num_workers) * (sizeof(WorkerShared) + rings);
}

ControlBlock::ControlBlock(std::byte* memory, int64_t num_envs, int64_t num_workers)
    : memory_(memory),
      num_workers_(num_workers),
      posts_length_(posts_length(num_envs)),
      answers_length_(answers_length(num_envs)) {}

ControlBlock::ControlBlock(const char* op, std::byte* memory, int64_t num_envs, int64_t num_workers)
    : ControlBlock(memory, num_envs, num_workers) {
  MF_REQUIRE(shared().magic == kMagic, op, ": fd must hold a control block, got other bytes");
  MF_REQUIRE(shared().num_envs == num_envs && shared().num_workers == num_workers, op,
             ": num_envs and num_workers must be ", shared().num_envs, " and ",
             shared().num_workers, ", got ", num_envs, " and ", num_workers);
}

ControlBlock ControlBlock::create(std::byte* memory, int64_t num_envs, int64_t num_workers) {
  const ControlBlock block(memory, num_envs, num_workers);
  Shared& shared = *new (memory) Shared;
  shared.magic = kMagic;
  shared.num_envs = num_envs;
  shared.num_workers = num_workers;
  std::uninitialized_default_construct_n(&block.worker(0), num_workers);
  return block;
}

std::span<int32_t> ControlBlock::posts(int64_t worker) const {
  std::byte* const first = reinterpret_cast<std::byte*>(&this->worker(num_workers_));
  const size_t stride = lines(posts_length_ * sizeof(int32_t));
  return {reinterpret_cast<int32_t*>(first + size_t(worker) * stride), posts_length_};
}

std::span<Answer> ControlBlock::answers(int64_t worker) const {
  std::byte* const first = reinterpret_cast<std::byte*>(posts(num_workers_).data());
  const size_t stride = lines(answers_length_ * sizeof(Answer));
  return {reinterpret_cast<Answer*>(first + size_t(worker) * stride), answers_length_};
}

uint64_t ControlBlock::answered() const {
  uint64_t sum = 0;
  for (int64_t w = 0; w < num_workers_; ++w) sum += worker(w).answered.load();
  return sum;
}

}  // namespace machin_fast
