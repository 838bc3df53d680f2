// CLOCK_MONOTONIC for hooks: the kernel's own code in the vDSO, called without libc.
//
// Context: Start in `bootstrap`; Now in `hook` and `signal`. errno is not touched.
// Why not libc's clock_gettime: programs and other preloaded libraries (libfaketime) put theirs in its place, and theirs may
//          take a lock, which would come back to us. Why not the cycle counter: the wait of a thread begins on one processor
//          and ends on another.
// Without a vDSO (a sandbox), or where the cycle counter that it reads is forbidden (PR_SET_TSC: it would fault): the system call,
//          some 10 times slower.
#pragma once

#include <time.h>

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/units.h"

namespace profagent {

using ClockFunction = int (*)(clockid_t, struct timespec*);

// Never null: the system call until StartMonotonicClock has found better.
extern constinit ClockFunction g_clock_gettime;

void StartMonotonicClock();
void UseClockWithoutCounter();  // `hook`, also while others ask for the time

PROF_ALWAYS_INLINE Nanos MonotonicNow() {
  struct timespec now;
  __atomic_load_n(&g_clock_gettime, __ATOMIC_RELAXED)(CLOCK_MONOTONIC, &now);
  return Nanos{static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(now.tv_nsec)};
}

}  // namespace profagent
