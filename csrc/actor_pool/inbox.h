// A worker's end of the control block: takes what is posted to it and answers. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "actor_pool/control_block.h"
#include "actor_pool/futex.h"
#include "actor_pool/spin.h"

namespace machin_fast {

class Inbox {
 public:
  // kNothing: the time is over, or a signal came.
  enum class Wait { kReady, kNothing, kClosed };

  // `memory` holds a dispatcher's block and outlives this. Throws std::invalid_argument.
  Inbox(std::byte* memory, int64_t num_envs, int64_t num_workers, int64_t worker);

  // Waits until something is posted. kClosed once the dispatcher has closed, whatever is posted.
  Wait wait(Clock::time_point until);
  // Takes all that is posted, in its order: ids of environments, and kCall.
  std::vector<int32_t> take();

  // Publishes what was written for this environment before, with a flag; wakes the dispatcher
  // if it sleeps and now has what it waits for. Throws std::invalid_argument for an environment
  // that was not taken since its last answer.
  void done(int64_t env, int32_t flag);

 private:
  void beat();

  ControlBlock block_;
  WorkerShared& mine_;
  std::span<const int32_t> posts_;
  std::span<Answer> answers_;
  uint64_t taken_;
  uint64_t answered_;
  std::vector<bool> in_hand_;
  Spin spin_;
};

}  // namespace machin_fast
