// Random numbers as functions of a seed and a place, so that they come in any order, from any
// number of threads and on any device.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace machin_fast {

// The mixer of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
MF_HD uint64_t mix_bits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// The i-th of the uniform draws in [0, 1) that belong to a seed: SplitMix64's i-th output.
MF_HD double uniform_draw(uint64_t seed, uint64_t i) {
  return double(mix_bits(seed + (i + 1) * 0x9E3779B97F4A7C15ull) >> 11) * 0x1.0p-53;
}

// The seed of a generator's call-th call.
MF_HD uint64_t seed_of_call(uint64_t seed, uint64_t call) {
  return mix_bits(mix_bits(seed) + call * 0xD1342543DE82EF95ull);
}

}  // namespace machin_fast
