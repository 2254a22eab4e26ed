#include "actor_pool/inbox.h"

#include <chrono>

#include "actor_pool/require.h"

namespace machin_fast {
namespace {

ControlBlock attach(std::byte* memory, int64_t num_envs, int64_t num_workers, int64_t worker) {
  ControlBlock::check("Inbox", num_envs, num_workers);
  MF_REQUIRE(worker >= 0 && worker < num_workers, "Inbox: worker must be in [0, ", num_workers,
             "), got ", worker);
  return ControlBlock("Inbox", memory, num_envs, num_workers);
}

}  // namespace

Inbox::Inbox(std::byte* memory, int64_t num_envs, int64_t num_workers, int64_t worker)
    : block_(attach(memory, num_envs, num_workers, worker)),
      mine_(block_.worker(worker)),
      posts_(block_.posts(worker)),
      answers_(block_.answers(worker)),
      // Where the process that had this place before me, if any, has ended.
      taken_(mine_.taken.load()),
      answered_(mine_.answered.load()),
      in_hand_(size_t(num_envs)),
      spin_(int(num_workers) + 1) {
  mine_.bed.asleep.store(0);
}

void Inbox::beat() {
  const auto now = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
  mine_.heartbeat.store(now, std::memory_order_relaxed);
}

Inbox::Wait Inbox::wait(Clock::time_point until) {
  const auto closed = [this] { return block_.shared().closed.load() != 0; };
  const auto posted = [&] { return mine_.posted.load() != taken_ || closed(); };
  if (!posted()) {
    const auto begin = Clock::now();
    if (begin >= until) return Wait::kNothing;
    bool interrupted = false;
    if (!spin_.until(posted)) {
      while (!interrupted && !posted() && Clock::now() < until) {
        mine_.bed.asleep.store(1);
        interrupted = !posted() && !sleep_while(mine_.bed.asleep, 1, until);
        mine_.bed.asleep.store(0);
      }
    }
    spin_.learn(Clock::now() - begin);
    if (!posted()) return Wait::kNothing;
  }
  return closed() ? Wait::kClosed : Wait::kReady;
}

std::vector<int32_t> Inbox::take() {
  const uint64_t posted = mine_.posted.load();
  std::vector<int32_t> entries;
  entries.reserve(size_t(posted - taken_));
  while (taken_ != posted) {
    const int32_t entry = posts_[taken_++ & (posts_.size() - 1)];
    if (entry != kCall) in_hand_[size_t(entry)] = true;
    entries.push_back(entry);
  }
  mine_.taken.store(taken_);
  beat();
  return entries;
}

void Inbox::done(int64_t env, int32_t flag) {
  MF_REQUIRE(env >= 0 && env < int64_t(in_hand_.size()) && in_hand_[size_t(env)],
             "Inbox.done: env must be one that was taken and not answered, got ", env);
  in_hand_[size_t(env)] = false;
  beat();
  answers_[answered_ & (answers_.size() - 1)] = {.env = int32_t(env), .flag = flag};
  mine_.answered.store(++answered_);

  Shared& shared = block_.shared();
  if (shared.bed.asleep.load() == 0) return;
  if (int64_t(block_.answered() - shared.wanted.load()) < 0) return;
  if (shared.bed.asleep.exchange(0) != 0) wake_sleepers(shared.bed.asleep);
}

}  // namespace machin_fast
