#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "actor_pool/versioned_block.h"
#include "actor_pool_testing.h"

namespace machin_fast {
namespace {

using testing::Child;
using testing::SharedMemory;

std::vector<std::byte> filled(size_t size, uint64_t value) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(value * 31 + i % 7);
  return bytes;
}

class Sizes : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(VersionedBlock, Sizes, ::testing::Values(0, 1, 7, 8, 9, 1000));

TEST_P(Sizes, ReadsWhatWasPublishedLast) {
  const size_t size = GetParam();
  SharedMemory memory(VersionedBlock::bytes_needed(size));
  VersionedBlock writer(memory.data(), size);
  const VersionedBlock reader(memory.data(), size);

  std::vector<std::byte> got(size, std::byte(0xee));
  const auto untouched = got;
  EXPECT_EQ(reader.version(), 0u);
  EXPECT_EQ(reader.read(got.data(), 0), 0u);
  EXPECT_EQ(got, untouched);

  for (uint64_t version = 1; version <= 5; ++version) {
    EXPECT_EQ(writer.publish(filled(size, version).data()), version);
    EXPECT_EQ(reader.version(), version);
    EXPECT_EQ(reader.read(got.data(), version - 1), version);
    EXPECT_EQ(got, filled(size, version));
  }
  std::fill(got.begin(), got.end(), std::byte(0xee));
  EXPECT_EQ(reader.read(got.data(), 5), 5u);
  EXPECT_EQ(got, untouched);
}

// A version is whole if all its words are its number.
bool whole(const std::vector<uint64_t>& words, uint64_t version) {
  return std::all_of(words.begin(), words.end(), [&](uint64_t w) { return w == version; });
}

TEST(VersionedBlock, ReadersNeverSeeATornVersion) {
  constexpr size_t kWords = 257;
  constexpr uint64_t kVersions = 20'000;
  SharedMemory memory(VersionedBlock::bytes_needed(8 * kWords));
  std::atomic<int> torn{0}, read{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      const VersionedBlock block(memory.data(), 8 * kWords);
      std::vector<uint64_t> words(kWords);
      for (uint64_t seen = 0; seen < kVersions;) {
        const uint64_t version = block.read(reinterpret_cast<std::byte*>(words.data()), seen);
        if (version == seen) continue;
        if (version < seen || !whole(words, version)) ++torn;
        seen = version;
        ++read;
      }
    });
  }
  VersionedBlock block(memory.data(), 8 * kWords);
  for (uint64_t version = 1; version <= kVersions; ++version) {
    const std::vector<uint64_t> words(kWords, version);
    block.publish(reinterpret_cast<const std::byte*>(words.data()));
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn, 0);
  EXPECT_GT(read, 2);
}

TEST(VersionedBlock, AWriterThatIsKilledLeavesTheLastWholeVersion) {
  constexpr size_t kWords = 100'000;  // so that most kills hit a publication
  SharedMemory memory(VersionedBlock::bytes_needed(8 * kWords));
  const VersionedBlock reader(memory.data(), 8 * kWords);
  std::vector<uint64_t> words(kWords);
  std::mt19937 random(1);
  uint64_t last = 0;
  for (int kills = 0; kills < 20; ++kills) {
    Child writer([&] {
      VersionedBlock block(memory.data(), 8 * kWords);
      while (true) {
        const std::vector<uint64_t> next(kWords, block.version() + 1);
        block.publish(reinterpret_cast<const std::byte*>(next.data()));
      }
    });
    while (reader.version() < last + 2) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
    writer.kill();
    const uint64_t version = reader.read(reinterpret_cast<std::byte*>(words.data()), last);
    EXPECT_GE(version, last + 2);
    EXPECT_TRUE(whole(words, version));
    last = version;
  }
}

}  // namespace
}  // namespace machin_fast
