// CPU time by perf events (PERF_COUNT_SW_TASK_CLOCK): a high-resolution timer a thread, so the asked rate is
// met exactly, at some 50 us a sample in a virtual machine (measurements.md 3). For rates above the
// scheduler's tick.
//
// Context:   `hook`, `bootstrap`, `dump`; ContinuePerfEvent in `signal`.
// Beware:    descriptors belong to the application's table. Ours are high and close-on-exec; the application
//            may close them (closefrom) and get their numbers for files of its own. So each is asked for its
//            event's id before it is touched, and a number that no longer answers with ours is left alone.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/units.h"

namespace profagent {

struct PerfEvent {
  int32_t fd = -1;  // or -errno
  uint64_t id = 0;
  bool user_time_only = false;  // without the kernel's part of the thread's time (perf_event_paranoid >= 2)
};

// An event that sends `signo` (si_code POLL_IN or POLL_HUP, si_fd the descriptor) to thread `tid`: once, when
// the thread has run for `first`; from ContinuePerfEvent on once a period. Events have no phase of their own,
// and threads shorter than a period would never be seen.
PerfEvent OpenPerfEvent(uint32_t tid, int signo, Nanos first);
void EnablePerfEvent(const PerfEvent& event);
// In `signal`, when the first one arrived: two system calls, once a thread.
PROF_SIGNAL_SAFE void ContinuePerfEvent(int32_t fd, Nanos period);

bool IsStillOurs(const PerfEvent& event);
void ClosePerfEvent(const PerfEvent& event);  // only while it is ours

}  // namespace profagent
