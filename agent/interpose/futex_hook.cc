// syscall(SYS_futex, ...): what C++20's semaphore, latch, barrier and atomic::wait, Rust's std and many home-made locks wait
// in. Block profile only: who will end such a wait, the kernel does not know either.
//
// Context: `hook`, also of programs that vfork or clone by this function: what is not a futex wait leaves by a jump, with the
//          program's own frame on the stack and every register and stack word as it was.
// Result:  libc's, errno as libc set it. EAGAIN (the value had changed) was no wait.
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13  // Linux 5.14
#endif

namespace profagent {
namespace {

bool Waits(long operation) {
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return true;
    default:
      return false;
  }
}

__attribute__((noinline)) long Wait(long number, long a, long b, long c, long d, long e, long f) {
  WaitSlot* wait = g_contention.Begin(Primitive::kFutex, nullptr, reinterpret_cast<const void*>(a));
  long result = g_real_locks.syscall(number, a, b, c, d, e, f);
  g_contention.End(wait, result == 0 || errno == ETIMEDOUT || errno == EINTR);
  return result;
}

}  // namespace

long instrumented::syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (number == SYS_futex && Waits(b)) return Wait(number, a, b, c, d, e, f);
  return g_real_locks.syscall(number, a, b, c, d, e, f);
}

}  // namespace profagent
