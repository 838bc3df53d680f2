// A number's bits, mixed so that each depends on all: neighbours become strangers.
//
// Context: every one.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

PROF_ALWAYS_INLINE constexpr uint64_t Scramble(uint64_t x) {  // splitmix64's finalizer
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

}  // namespace profagent
