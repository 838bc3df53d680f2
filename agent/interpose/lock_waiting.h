// What the hooks of blocking functions have in common.
//
// Context: `hook`.
#pragma once

#include <errno.h>
#include <time.h>

namespace profagent {

// Whether a call that came back with `error` has waited for what it came for. The other errors say that it never began.
inline bool HasWaited(int error) {
  return error == 0 || error == ETIMEDOUT || error == EOWNERDEAD || error == ENOTRECOVERABLE;
}

// The clocks that libc lets a deadline be of.
inline bool IsWaitClock(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC; }

}  // namespace profagent
