// Bytes in shared memory that one process publishes and any number of others read, never torn. Of
// two copies the writer overwrites the older one, so that whoever dies within a call leaves the
// newest whole version readable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace machin_fast {

class VersionedBlock {
 public:
  static size_t bytes_needed(size_t size);

  // `memory` is bytes_needed(size) bytes, zero before the first use, and outlives this.
  VersionedBlock(std::byte* memory, size_t size);

  size_t size() const { return size_; }
  // Of the newest whole publication; 0 before the first.
  uint64_t version() const { return head().version.load(std::memory_order_acquire); }

  // Copies `size` bytes in; returns their version: 1, 2, ... Never waits. One writer at a time.
  uint64_t publish(const std::byte* data);

  // Copies the newest version out and returns it, or returns `newer_than` and copies nothing.
  // Begins anew if it was overtaken twice meanwhile; `into` is not whole before it returns.
  uint64_t read(std::byte* into, uint64_t newer_than) const;

 private:
  using Word = std::atomic<uint64_t>;
  struct Head {
    alignas(64) Word version;
    // What each copy holds; kWriting while it is written.
    alignas(64) Word held[2];
  };

  Head& head() const { return *reinterpret_cast<Head*>(memory_); }
  Word* copy(uint64_t version) const;

  std::byte* memory_;
  size_t size_;
};

}  // namespace machin_fast
