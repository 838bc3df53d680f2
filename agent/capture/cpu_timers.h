// POSIX timers on CPU clocks, by system call: libc's timer_create allocates, and its timer_delete takes a
// lock.
//
// Context: `hook`, `bootstrap`, `dump`; in `signal` nothing of it is used.
// Kernel:  such a timer is looked at when the thread is interrupted by the scheduler's tick (CONFIG_HZ), and
//          all periods that passed since then arrive as one signal with si_overrun. A timer on a thread's
//          clock (SIGEV_THREAD_ID) signals that thread alone; when it ends the timer stays, disarmed, until
//          it is deleted.
#pragma once

#include <time.h>

#include <cstdint>

#include "agent/base/units.h"

namespace profagent {

// The CPU clock of any thread of this process.
constexpr clockid_t ThreadCpuClock(uint32_t tid) { return static_cast<clockid_t>(~tid << 3 | 6); }

// The clock's reading; 0 when there is no such thread any more.
Nanos ReadClock(clockid_t clock);

struct TimerTarget {
  clockid_t clock;
  uint32_t tid;  // 0: the signal may go to any thread
  int signo;
  uint64_t value;  // si_value
};

// The kernel's timer id, or -errno. EAGAIN: RLIMIT_SIGPENDING.
int32_t CreateTimer(const TimerTarget& target);

// First expiry at `first` on the timer's clock, then one a `period`. 0, or -errno. EINVAL: there is no such timer; ESRCH: the thread
// behind its clock has ended.
int32_t ArmTimer(int32_t timer, Nanos first, Nanos period);
void DeleteTimer(int32_t timer);

// The thread behind an armed timer on a thread's clock has ended.
bool IsThreadGone(int32_t timer);

}  // namespace profagent
