// Waiting awake, for a short while before sleeping: a wake-up takes 15 to 25 us, a look at a word
// of another core some 0.1 us.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

#include "actor_pool/futex.h"

namespace machin_fast {

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Cores that this process may run on.
int usable_cores();

class Spin {
 public:
  // `spinners`: how many wait like this at once. With more of them than cores nobody spins, as the
  // one who is waited for would then wait for the core.
  explicit Spin(int spinners) : allowed_(spinners <= usable_cores()) {}

  // Looks until ready() or some time has passed; whether it was ready. That time is short while
  // waits have been long lately: pauses cost next to nothing.
  template <typename Ready>
  bool until(const Ready& ready) {
    if (!allowed_) return ready();
    const auto end = Clock::now() + (short_waits_ > 0 ? kLong : kShort);
    do {
      for (int i = 0; i < 8; ++i) {
        if (ready()) return true;
        pause();
      }
      std::this_thread::yield();  // the one who is waited for may need this very core
    } while (Clock::now() < end);
    return false;
  }

  // Tells it how long a wait took in the end, with sleep and all.
  void learn(Clock::duration wait) {
    short_waits_ = std::clamp(short_waits_ + (wait < 2 * kLong ? 1 : -1), 0, kMemory);
  }

 private:
  static constexpr std::chrono::microseconds kShort{2};
  static constexpr std::chrono::microseconds kLong{60};  // some wake-ups
  static constexpr int kMemory = 8;

  bool allowed_;
  int short_waits_ = kMemory;
};

}  // namespace machin_fast
