// pthread_mutex_*: who waits for a mutex, and whose unlock ended that.
//
// Context:  `hook`: in signal handlers, in allocators, in forked and in vfork children too. Nothing here can fail, wait or touch
//           errno beyond what libc's function does.
// Lock:     try first, which is what an uncontended lock would do (TryFirst). Only EBUSY goes on; everything else is the answer:
//           EOWNERDEAD took the lock (a second attempt would wait for ourselves), EAGAIN, EINVAL and ENOTRECOVERABLE are final.
//           After EBUSY libc's own function decides: it waits, or finds a deadlock (EDEADLK).
// Trylock:  is not ours. It waits for nobody, and an unlock is looked at however the lock was taken.
// Unlock:   ends a wait when it wakes somebody, which libc's lock word says before: that is Go's rule too. A thread that has
//           found the lock busy and is still on its way to sleep finds it free and goes on. (Charging those as well puts a
//           reading of the clock into every critical section of a busy lock: half of its throughput, where now it loses
//           nothing.) A level of a recursive mutex that is not the last ends no wait. What is done before the release is
//           inside the critical section: one reading of the clock and one exchange, beside the system call that wakes.
// Cost:     uncontended, both profiles on: 1.2 ns over a plain pair (tests/bench/lock_cost.py).
#include <errno.h>
#include <pthread.h>

#include "agent/base/function_ref.h"
#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

__attribute__((noinline)) int LockBusy(pthread_mutex_t* mutex) {
  WaitSlot* wait = g_contention.Begin(Primitive::kMutexLock, mutex);
  int error = g_real_locks.pthread_mutex_lock(mutex);
  g_contention.End(wait, HasWaited(error), error == 0 && !NobodySleptFor(mutex));
  return error;
}

__attribute__((noinline)) int LockByDeadline(Primitive primitive, pthread_mutex_t* mutex,
                                             FunctionRef<int()> real) {
  if (TriesByLock()) return NeedsNoWait(mutex) ? real() : WaitForLock(primitive, mutex, real);
  int error = TryFirst(mutex, real);
  return error != EBUSY ? error : WaitForLock(primitive, mutex, real);
}

// Of a mutex that somebody sleeps for, or slept for: maybe the thread that unlocks it.
__attribute__((noinline)) int UnlockSlept(pthread_mutex_t* mutex) {
  auto real = [mutex] { return g_real_locks.pthread_mutex_unlock(mutex); };
  int error = EndsAWait(mutex) ? ChargedUnlock(Primitive::kMutexUnlock, mutex, real) : real();
  g_contention.LeaveLate();
  return error;
}

}  // namespace

namespace instrumented {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  int error = TryFirst(mutex, [=] { return g_real_locks.pthread_mutex_lock(mutex); });
  if (error != EBUSY) [[likely]]
    return error;
  return LockBusy(mutex);
}

int pthread_mutex_timedlock(pthread_mutex_t* mutex, const struct timespec* deadline) noexcept {
  return LockByDeadline(Primitive::kMutexTimedlock, mutex,
                        [=] { return g_real_locks.pthread_mutex_timedlock(mutex, deadline); });
}

int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                            const struct timespec* deadline) noexcept {
  auto real = [=] { return g_real_locks.pthread_mutex_clocklock(mutex, clock, deadline); };
  // libc refuses a clock that it does not know even when the mutex is free.
  if (!IsWaitClock(clock)) return real();
  return LockByDeadline(Primitive::kMutexClocklock, mutex, real);
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  if (NobodySleptFor(mutex)) [[likely]]
    return g_real_locks.pthread_mutex_unlock(mutex);
  return UnlockSlept(mutex);
}

}  // namespace instrumented
}  // namespace profagent
