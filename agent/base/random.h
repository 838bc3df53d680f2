// Random draws for sampling decisions: splitmix64, one state a thread.
//
// Context: every one. Good enough that no pattern of a program lines up with it; not for secrets.
#pragma once

#include <cstdint>

#include "agent/base/raw_syscall.h"
#include "agent/base/scramble.h"
#include "agent/base/signal_safe.h"

namespace profagent {

PROF_ALWAYS_INLINE uint64_t NextRandom(uint64_t* state) { return Scramble(*state += 0x9e3779b97f4a7c15); }

// A state for the draws of this thread, never 0. `now`: any clock's nanoseconds.
PROF_ALWAYS_INLINE uint64_t SeedOfThread(uint64_t now) {
  return (now ^ static_cast<uint64_t>(RawSyscall(SYS_gettid)) << 44 ^
          reinterpret_cast<uintptr_t>(__builtin_thread_pointer())) |
         1;
}

// Uniform in [0, limit), but for a bias of limit / 2^64.
PROF_ALWAYS_INLINE uint64_t NextRandomBelow(uint64_t limit, uint64_t* state) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(NextRandom(state)) * limit >> 64);
}

}  // namespace profagent
