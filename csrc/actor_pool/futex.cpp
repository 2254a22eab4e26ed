#include "actor_pool/futex.h"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#else
#include <algorithm>
#include <thread>
#endif

namespace machin_fast {

#ifdef __linux__

bool sleep_while(const std::atomic<uint32_t>& word, uint32_t value, Clock::time_point until) {
  const auto left = std::chrono::nanoseconds(until - Clock::now()).count();
  if (left <= 0) return true;
  const timespec timeout{.tv_sec = time_t(left / 1'000'000'000), .tv_nsec = left % 1'000'000'000};
  return syscall(SYS_futex, &word, FUTEX_WAIT, value, &timeout, nullptr, 0) == 0 || errno != EINTR;
}

void wake_sleepers(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

#else

// No public call elsewhere sleeps on shared memory, so this looks again and again, less and less
// often: a wake-up is up to a millisecond late.
bool sleep_while(const std::atomic<uint32_t>& word, uint32_t value, Clock::time_point until) {
  auto nap = std::chrono::nanoseconds(20'000);
  while (word.load() == value) {
    const auto left = std::chrono::nanoseconds(until - Clock::now());
    if (left.count() <= 0) break;
    std::this_thread::sleep_for(std::min(nap, left));
    nap = std::min<std::chrono::nanoseconds>(2 * nap, std::chrono::milliseconds(1));
  }
  return true;
}

void wake_sleepers(std::atomic<uint32_t>&) {}

#endif

}  // namespace machin_fast
