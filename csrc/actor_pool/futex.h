// Sleeping until another process changes a word of shared memory.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace machin_fast {

using Clock = std::chrono::steady_clock;  // the same in all processes of a machine

static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4);
static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == 8);

// Sleeps while `word` is `value`, until `until` at the latest. May return early, as a wake-up may
// come late that was meant for an earlier sleep. False if a signal ended the sleep.
bool sleep_while(const std::atomic<uint32_t>& word, uint32_t value, Clock::time_point until);

// Wakes all that sleep on `word`. The word must have been changed before.
void wake_sleepers(std::atomic<uint32_t>& word);

}  // namespace machin_fast
