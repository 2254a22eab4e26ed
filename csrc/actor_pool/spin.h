// Waiting awake, for a short while before sleeping: a wake-up takes 15 to 25 us, a look at a word
// of another core some 0.1 us.
#pragma once

#include <algorithm>
#include <chrono>

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
  explicit Spin(int spinners) : most_(spinners <= usable_cores() ? kMost : kNone), now_(most_) {}

  // Looks until ready() or the budget is spent; whether it was ready. What came in time makes the
  // next budget longer, what did not, shorter: long pauses cost next to nothing.
  template <typename Ready>
  bool until(const Ready& ready) {
    if (ready()) return true;
    if (most_ == kNone) return false;
    const auto end = Clock::now() + now_;
    do {
      for (int i = 0; i < 8; ++i) {
        pause();
        if (ready()) {
          now_ = std::min(most_, 2 * now_);
          return true;
        }
      }
    } while (Clock::now() < end);
    now_ = std::max(kLeast, now_ / 2);
    return false;
  }

 private:
  using Budget = std::chrono::nanoseconds;
  static constexpr Budget kNone{0};
  static constexpr Budget kLeast{2'000};
  static constexpr Budget kMost{60'000};

  Budget most_;
  Budget now_;
};

}  // namespace machin_fast
