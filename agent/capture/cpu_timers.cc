#include "agent/capture/cpu_timers.h"

#include <signal.h>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

// struct sigevent as the kernel has it.
struct KernelSigevent {
  uint64_t value;
  int32_t signo;
  int32_t notify;
  int32_t tid;
  int32_t padding[11];
};
static_assert(sizeof(KernelSigevent) == 64);

constexpr struct timespec ToTimespec(Nanos time) {
  return {static_cast<time_t>(time.value / kNanosPerSecond), static_cast<long>(time.value % kNanosPerSecond)};
}

}  // namespace

Nanos ReadClock(clockid_t clock) {
  struct timespec now = {};
  if (RawSyscall(SYS_clock_gettime, clock, &now) != 0) return Nanos(0);
  return Nanos(static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(now.tv_nsec));
}

int32_t CreateTimer(const TimerTarget& target) {
  KernelSigevent event = {};
  event.value = target.value;
  event.signo = target.signo;
  event.notify = target.tid != 0 ? SIGEV_THREAD_ID : SIGEV_SIGNAL;
  event.tid = static_cast<int32_t>(target.tid);
  int32_t timer = 0;
  long result = RawSyscall(SYS_timer_create, target.clock, &event, &timer);
  return result == 0 ? timer : static_cast<int32_t>(result);
}

int32_t ArmTimer(int32_t timer, Nanos first, Nanos period) {
  struct itimerspec times = {ToTimespec(period), ToTimespec(first)};
  return static_cast<int32_t>(RawSyscall(SYS_timer_settime, timer, TIMER_ABSTIME, &times, nullptr));
}

void DeleteTimer(int32_t timer) { RawSyscall(SYS_timer_delete, timer); }

bool IsThreadGone(int32_t timer) {
  struct itimerspec left = {};
  if (RawSyscall(SYS_timer_gettime, timer, &left) != 0) return false;
  return left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0;
}

}  // namespace profagent
