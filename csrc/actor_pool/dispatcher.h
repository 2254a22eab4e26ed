// The parent's end of the control block: sends environments to their workers and takes answers.
// One thread at a time, but for close().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "actor_pool/control_block.h"
#include "actor_pool/futex.h"
#include "actor_pool/spin.h"
#include "actor_pool/watch_list.h"

namespace machin_fast {

class Dispatcher {
 public:
  // kNothing: the time is over, or a signal came.
  enum class Wait { kReady, kNothing, kDeath, kClosed };

  static constexpr int32_t kParent = -1;

  // Makes the block in `memory`, which must be ControlBlock::size() bytes and outlive this.
  // owner[env] is a worker, or kParent for an environment that is not dispatched.
  // Throws std::invalid_argument.
  Dispatcher(std::byte* memory, std::vector<int32_t> owner, int64_t num_workers);

  // Posts each environment to its worker; wakes a worker at most once, and only if it sleeps.
  // Throws std::invalid_argument, and nothing is posted, if an id is out of range, not dispatched,
  // given twice or in flight.
  void send(std::span<const int64_t> ids);
  // Posts kCall. Throws std::invalid_argument for no worker, or one that left kMostCalls lying.
  void call(int64_t worker);

  // Waits until `count` answers are there; not for more than are in flight. Looks for deaths and
  // close() before it sleeps, so give it a time after which to look again.
  Wait wait(int64_t count, Clock::time_point until);
  // Takes answers that are there, up to the length of `ids`, and says how many. Those of one
  // worker in their order; the workers in turns, so that none waits for ever.
  int64_t take(std::span<int64_t> ids, std::span<int32_t> flags);

  // `fd` becomes readable when the worker's process ends; it is duplicated. -1 ends the watch.
  void watch(int64_t worker, int fd);
  std::vector<int64_t> dead() const { return watched_.ended(); }
  // After a worker's death: empties its rings, ends its watch, and returns what it had in flight,
  // with that which it answered and nobody took. A new process may then be its Inbox.
  std::vector<int64_t> forget(int64_t worker);

  int64_t in_flight() const { return in_flight_; }
  // Since the worker last took or answered; infinite before it began.
  double heartbeat_age(int64_t worker) const;

  // Tells workers to end and wakes them and whoever waits here. Any thread, any number of times.
  void close();
  bool closed() const { return block_.shared().closed.load() != 0; }

 private:
  struct Worker {
    uint64_t posted = 0;
    uint64_t received = 0;
    bool touched = false;
  };

  void check_worker(const char* op, int64_t worker) const;
  void accept(std::span<const int64_t> ids);
  void push(int64_t worker, int32_t entry);
  void publish(int64_t worker);
  bool ready(uint64_t wanted) const;

  ControlBlock block_;
  std::vector<int32_t> owner_;
  std::vector<bool> flying_;
  int64_t in_flight_ = 0;
  uint64_t received_ = 0;
  std::vector<Worker> workers_;
  std::vector<int64_t> touched_;
  int64_t first_ = 0;
  Spin spin_;
  WatchList watched_;
};

}  // namespace machin_fast
