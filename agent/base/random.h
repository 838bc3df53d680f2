// Random draws for sampling decisions: splitmix64, one state a thread.
//
// Context: every one. Good enough that no pattern of a program lines up with it; not for secrets.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

PROF_ALWAYS_INLINE uint64_t NextRandom(uint64_t* state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// Uniform in [0, limit), but for a bias of limit / 2^64.
PROF_ALWAYS_INLINE uint64_t NextRandomBelow(uint64_t limit, uint64_t* state) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(NextRandom(state)) * limit >> 64);
}

}  // namespace profagent
