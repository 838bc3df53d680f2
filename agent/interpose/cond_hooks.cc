// Condition variables, pthread's and C11's: the wait, the unlock and the lock that are in it, and who wakes whom.
//
// Context:  `hook`; waiting is a cancellation point.
// Stack:    the one place where a stack is walked while a lock is held: the wait begins with the mutex locked, ends with it
//           locked, and in between libc runs. Some 0.3 us, beside a thread that goes to sleep.
// Unlock:   the mutex that the wait gives up is charged as by an unlock, at this stack: who waited for the mutex did so until
//           here.
// Return:   see ConditionWaits. A wait that timed out takes the mutex back unseen: when it began to want it is not known.
// Versions: a condition variable of GLIBC_2.2.5 is a pointer to a real one. Ours only needs its address; libc's functions of
//           the same version do the rest.
#include <errno.h>
#include <pthread.h>
#include <threads.h>

#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

constexpr uint32_t kAll = UINT32_MAX;

// `call` waits; `mutex` is its pthread_mutex_t. ETIMEDOUT and thrd_timedout are told by `timed_out`.
template <class Call>
PROF_ALWAYS_INLINE int Wait(Primitive primitive, const void* condition, const pthread_mutex_t* mutex,
                            int timed_out, Call call) {
  WaitSlot* wait = g_contention.BeginAtCondition(primitive, condition, mutex);
  if (!NobodySleptFor(mutex) && EndsAWait(mutex)) {
    UnlockCharge charge = g_contention.Unlock(mutex);
    if (charge.any()) g_contention.RecordUnlock(primitive, mutex, charge, wait);
  }
  int result = CallCancellably(wait, call);
  bool waited = result == 0 || result == timed_out || HasWaited(result);
  g_contention.EndAtCondition(wait, waited, result != timed_out);
  return result;
}

template <class Condition>
PROF_ALWAYS_INLINE void Signalled(Condition* condition, uint32_t most) {
  if (g_contention.MayWaitAt(condition)) g_contention.Signal(condition, most);
}

}  // namespace

namespace instrumented {

int new_pthread_cond_wait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex) {
  return Wait(Primitive::kCondWait, condition, mutex, ETIMEDOUT,
              [=] { return g_real_locks.new_pthread_cond_wait(condition, mutex); });
}

int old_pthread_cond_wait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex) {
  return Wait(Primitive::kCondWait, condition, mutex, ETIMEDOUT,
              [=] { return g_real_locks.old_pthread_cond_wait(condition, mutex); });
}

int new_pthread_cond_timedwait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex,
                               const struct timespec* __restrict deadline) {
  return Wait(Primitive::kCondTimedwait, condition, mutex, ETIMEDOUT,
              [=] { return g_real_locks.new_pthread_cond_timedwait(condition, mutex, deadline); });
}

int old_pthread_cond_timedwait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex,
                               const struct timespec* __restrict deadline) {
  return Wait(Primitive::kCondTimedwait, condition, mutex, ETIMEDOUT,
              [=] { return g_real_locks.old_pthread_cond_timedwait(condition, mutex, deadline); });
}

int pthread_cond_clockwait(pthread_cond_t* __restrict condition, pthread_mutex_t* __restrict mutex,
                           clockid_t clock, const struct timespec* __restrict deadline) {
  return Wait(Primitive::kCondClockwait, condition, mutex, ETIMEDOUT,
              [=] { return g_real_locks.pthread_cond_clockwait(condition, mutex, clock, deadline); });
}

int cnd_wait(cnd_t* condition, mtx_t* mutex) {
  return Wait(Primitive::kCndWait, condition, Inside(mutex), thrd_timedout,
              [=] { return g_real_locks.cnd_wait(condition, mutex); });
}

int cnd_timedwait(cnd_t* __restrict condition, mtx_t* __restrict mutex,
                  const struct timespec* __restrict deadline) {
  return Wait(Primitive::kCndTimedwait, condition, Inside(mutex), thrd_timedout,
              [=] { return g_real_locks.cnd_timedwait(condition, mutex, deadline); });
}

int new_pthread_cond_signal(pthread_cond_t* condition) noexcept {
  Signalled(condition, 1);
  return g_real_locks.new_pthread_cond_signal(condition);
}

int old_pthread_cond_signal(pthread_cond_t* condition) noexcept {
  Signalled(condition, 1);
  return g_real_locks.old_pthread_cond_signal(condition);
}

int cnd_signal(cnd_t* condition) {
  Signalled(condition, 1);
  return g_real_locks.cnd_signal(condition);
}

int new_pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  Signalled(condition, kAll);
  return g_real_locks.new_pthread_cond_broadcast(condition);
}

int old_pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  Signalled(condition, kAll);
  return g_real_locks.old_pthread_cond_broadcast(condition);
}

int cnd_broadcast(cnd_t* condition) {
  Signalled(condition, kAll);
  return g_real_locks.cnd_broadcast(condition);
}

}  // namespace instrumented
}  // namespace profagent
