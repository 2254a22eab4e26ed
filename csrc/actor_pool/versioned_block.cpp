#include "actor_pool/versioned_block.h"

#include <cstring>

namespace machin_fast {
namespace {

constexpr uint64_t kWriting = ~uint64_t(0);

size_t words(size_t bytes) {
  return (bytes + 7) / 8;
}

// Copies between plain bytes and words, the last of which may be a part.
template <typename Move>
void for_each_word(size_t bytes, const Move& move) {
  for (size_t w = 0; w < bytes / 8; ++w) move(w, size_t(8));
  if (bytes % 8 != 0) move(bytes / 8, bytes % 8);
}

}  // namespace

size_t VersionedBlock::bytes_needed(size_t size) {
  return sizeof(Head) + 2 * 8 * words(size);
}

VersionedBlock::VersionedBlock(std::byte* memory, size_t size) : memory_(memory), size_(size) {}

VersionedBlock::Word* VersionedBlock::copy(uint64_t version) const {
  return reinterpret_cast<Word*>(memory_ + sizeof(Head)) + (version & 1) * words(size_);
}

// The words are stored with release and loaded with acquire, which costs nothing on x86: a reader
// that meets a word of the next version also sees kWriting, or what follows it, when it looks at
// `held` again.
uint64_t VersionedBlock::publish(const std::byte* data) {
  const uint64_t next = version() + 1;
  Word& held = head().held[next & 1];
  held.store(kWriting, std::memory_order_relaxed);
  Word* const to = copy(next);
  for_each_word(size_, [&](size_t w, size_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, data + 8 * w, bytes);
    to[w].store(word, std::memory_order_release);
  });
  held.store(next, std::memory_order_release);
  head().version.store(next, std::memory_order_release);
  return next;
}

uint64_t VersionedBlock::read(std::byte* into, uint64_t newer_than) const {
  while (true) {
    const uint64_t newest = version();
    if (newest <= newer_than) return newer_than;
    const Word& held = head().held[newest & 1];
    if (held.load(std::memory_order_acquire) != newest) continue;
    const Word* const from = copy(newest);
    for_each_word(size_, [&](size_t w, size_t bytes) {
      const uint64_t word = from[w].load(std::memory_order_acquire);
      std::memcpy(into + 8 * w, &word, bytes);
    });
    if (held.load(std::memory_order_relaxed) == newest) return newest;
  }
}

}  // namespace machin_fast
