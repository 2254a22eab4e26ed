#include "actor_pool/dispatcher.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "actor_pool/require.h"

namespace machin_fast {
namespace {

ControlBlock create(std::byte* memory, std::span<const int32_t> owner, int64_t num_workers) {
  const auto num_envs = int64_t(owner.size());
  ControlBlock::check("Dispatcher", num_envs, num_workers);
  for (int64_t env = 0; env < num_envs; ++env) {
    MF_REQUIRE(owner[env] >= Dispatcher::kParent && owner[env] < num_workers,
               "Dispatcher: owner must be in [-1, ", num_workers, "), got ", owner[env],
               " at position ", env);
  }
  return ControlBlock::create(memory, num_envs, num_workers);
}

void wake(Bed& bed) {
  if (bed.asleep.load() != 0 && bed.asleep.exchange(0) != 0) wake_sleepers(bed.asleep);
}

}  // namespace

Dispatcher::Dispatcher(std::byte* memory, std::vector<int32_t> owner, int64_t num_workers)
    : block_(create(memory, owner, num_workers)),
      owner_(std::move(owner)),
      flying_(owner_.size()),
      workers_(size_t(num_workers)),
      spin_(int(num_workers) + 1),
      watched_(num_workers) {
  touched_.reserve(workers_.size());
}

void Dispatcher::check_worker(const char* op, int64_t worker) const {
  MF_REQUIRE(worker >= 0 && worker < int64_t(workers_.size()), op, ": worker must be in [0, ",
             workers_.size(), "), got ", worker);
}

// Marks all of `ids` as in flight, or none.
void Dispatcher::accept(std::span<const int64_t> ids) {
  const auto fault = [this](int64_t id) -> const char* {
    if (id < 0 || id >= int64_t(owner_.size())) return "an environment";
    if (owner_[id] == kParent) return "dispatched";
    if (flying_[id]) return "given once and not in flight";
    return nullptr;
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    if (const char* rule = fault(ids[i])) {
      for (size_t k = 0; k < i; ++k) flying_[ids[k]] = false;
      refuse("Dispatcher.send: ids must be ", rule, ", got ", ids[i], " at position ", i);
    }
    flying_[ids[i]] = true;
  }
  in_flight_ += int64_t(ids.size());
}

void Dispatcher::push(int64_t worker, int32_t entry) {
  const auto posts = block_.posts(worker);
  posts[workers_[worker].posted++ & (posts.size() - 1)] = entry;
}

void Dispatcher::publish(int64_t worker) {
  WorkerShared& shared = block_.worker(worker);
  shared.posted.store(workers_[worker].posted);
  wake(shared.bed);
}

void Dispatcher::send(std::span<const int64_t> ids) {
  accept(ids);
  for (const int64_t id : ids) {
    const int32_t worker = owner_[id];
    push(worker, int32_t(id));
    if (!std::exchange(workers_[worker].touched, true)) touched_.push_back(worker);
  }
  for (const int64_t worker : touched_) {
    workers_[worker].touched = false;
    publish(worker);
  }
  touched_.clear();
}

void Dispatcher::call(int64_t worker) {
  check_worker("Dispatcher.call", worker);
  const uint64_t lying = workers_[worker].posted - block_.worker(worker).taken.load();
  MF_REQUIRE(lying < owner_.size() + kMostCalls,
             "Dispatcher.call: worker must take its earlier calls first, got ", lying,
             " entries that lie");
  push(worker, kCall);
  publish(worker);
}

bool Dispatcher::ready(uint64_t wanted) const {
  return int64_t(block_.answered() - wanted) >= 0;  // counters may wrap around
}

Dispatcher::Wait Dispatcher::wait(int64_t count, Clock::time_point until) {
  const uint64_t wanted = received_ + uint64_t(std::clamp<int64_t>(count, 0, in_flight_));
  const auto enough = [&] { return ready(wanted); };
  if (enough()) return Wait::kReady;
  const auto begin = Clock::now();
  if (begin >= until) return Wait::kNothing;
  if (!spin_.until(enough)) {
    if (closed()) return Wait::kClosed;
    if (watched_.any_ended()) return enough() ? Wait::kReady : Wait::kDeath;
    Shared& shared = block_.shared();
    shared.wanted.store(wanted);
    bool interrupted = false;
    while (!interrupted && !enough() && !closed() && Clock::now() < until) {
      shared.bed.asleep.store(1);
      interrupted = !enough() && !closed() && !sleep_while(shared.bed.asleep, 1, until);
      shared.bed.asleep.store(0);
    }
  }
  spin_.learn(Clock::now() - begin);
  if (enough()) return Wait::kReady;
  return closed() ? Wait::kClosed : Wait::kNothing;
}

int64_t Dispatcher::take(std::span<int64_t> ids, std::span<int32_t> flags) {
  const auto num_workers = int64_t(workers_.size());
  size_t taken = 0;
  for (int64_t i = 0; i < num_workers && taken < ids.size(); ++i) {
    const int64_t w = (first_ + i) % num_workers;
    const auto answers = block_.answers(w);
    const uint64_t answered = block_.worker(w).answered.load();
    while (workers_[w].received != answered && taken < ids.size()) {
      const Answer& answer = answers[workers_[w].received++ & (answers.size() - 1)];
      ids[taken] = answer.env;
      flags[taken++] = answer.flag;
      flying_[answer.env] = false;
    }
  }
  first_ = (first_ + 1) % num_workers;
  in_flight_ -= int64_t(taken);
  received_ += taken;
  return int64_t(taken);
}

void Dispatcher::watch(int64_t worker, int fd) {
  check_worker("Dispatcher.watch", worker);
  watched_.set(worker, fd);
}

std::vector<int64_t> Dispatcher::forget(int64_t worker) {
  check_worker("Dispatcher.forget", worker);
  watched_.set(worker, -1);
  WorkerShared& shared = block_.worker(worker);
  shared.taken.store(workers_[worker].posted);
  const uint64_t answered = shared.answered.load();
  received_ += answered - workers_[worker].received;
  workers_[worker].received = answered;

  std::vector<int64_t> lost;
  for (size_t env = 0; env < owner_.size(); ++env) {
    if (owner_[env] == worker && flying_[env]) {
      flying_[env] = false;
      lost.push_back(int64_t(env));
    }
  }
  in_flight_ -= int64_t(lost.size());
  return lost;
}

double Dispatcher::heartbeat_age(int64_t worker) const {
  check_worker("Dispatcher.heartbeat_age", worker);
  const int64_t beat = block_.worker(worker).heartbeat.load(std::memory_order_relaxed);
  if (beat == 0) return std::numeric_limits<double>::infinity();
  const auto now = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
  return std::max(0.0, double(now - beat) * 1e-9);
}

void Dispatcher::close() {
  Shared& shared = block_.shared();
  shared.closed.store(1);
  for (size_t w = 0; w < workers_.size(); ++w) wake(block_.worker(int64_t(w)).bed);
  wake(shared.bed);
}

}  // namespace machin_fast
