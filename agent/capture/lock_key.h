// Where in a table of buckets the entry of a lock stands, and how it is told from others there.
//
// Context:   `hook`, `signal`.
// Invariant: bucket and tag together are the address (a bijection of its 45 bits), so no lock is taken for another.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

struct LockKey {
  static constexpr uint32_t kBits = 45;  // an address of 47 bits, aligned to 4
  static constexpr uint32_t kLog2Buckets = 10;
  static constexpr uint32_t kTagBits = kBits - kLog2Buckets;

  uint64_t tag;
  uint32_t bucket;

  PROF_ALWAYS_INLINE static LockKey Of(const void* lock) {
    constexpr uint64_t kMask = (uint64_t{1} << kBits) - 1;
    uint64_t key = reinterpret_cast<uintptr_t>(lock) >> 2 & kMask;
    key = (key ^ key >> 21) * 0x9e3779b97f4a7c15 & kMask;
    key ^= key >> 23;
    return {key >> kLog2Buckets, static_cast<uint32_t>(key & ((1 << kLog2Buckets) - 1))};
  }
};

}  // namespace profagent
