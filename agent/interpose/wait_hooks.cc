// Waits that no unlock ends: semaphores, barriers, the end of a thread. Block profile only.
//
// Context:    `hook`. Semaphores and joins are cancellation points: a thread that is cancelled in here takes its wait back.
// Semaphores: a look at the value instead of a try, so that libc does everything that it does, in its order: cancellation,
//             then the check of the deadline, then the try. A semaphore that somebody else takes between the look and the wait
//             is a wait that is not seen.
// Join:       the try is the join when it succeeds.
// Barrier:    every thread but the last one waits. The last one, which libc tells so, has not.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

bool IsFree(sem_t* semaphore) {
  int value = 0;
  return sem_getvalue(semaphore, &value) != 0 || value > 0;
}

// A wait that is a cancellation point; `waited` judges what it returned.
template <class Call, class Waited>
PROF_ALWAYS_INLINE int CancellableWait(Primitive primitive, const void* object, Call call, Waited waited) {
  WaitSlot* wait = g_contention.Begin(primitive, nullptr, object);
  int result = CallCancellably(wait, call);
  g_contention.End(wait, waited(result));
  return result;
}

// -1 and errno: what came of it is in errno, which nothing of ours has touched since.
bool SemaphoreWaited(int result) { return result == 0 || errno == ETIMEDOUT || errno == EINTR; }

template <class Call>
PROF_ALWAYS_INLINE int Join(Primitive primitive, pthread_t thread, void** result, Call call) {
  int error = g_real_locks.pthread_tryjoin_np(thread, result);
  if (error != EBUSY) return error;
  return CancellableWait(primitive, nullptr, call, HasWaited);
}

}  // namespace

namespace instrumented {

int sem_wait(sem_t* semaphore) {
  auto real = [=] { return g_real_locks.sem_wait(semaphore); };
  if (IsFree(semaphore)) return real();
  return CancellableWait(Primitive::kSemWait, semaphore, real, SemaphoreWaited);
}

int sem_timedwait(sem_t* semaphore, const struct timespec* deadline) {
  auto real = [=] { return g_real_locks.sem_timedwait(semaphore, deadline); };
  if (IsFree(semaphore)) return real();
  return CancellableWait(Primitive::kSemTimedwait, semaphore, real, SemaphoreWaited);
}

int sem_clockwait(sem_t* semaphore, clockid_t clock, const struct timespec* deadline) {
  auto real = [=] { return g_real_locks.sem_clockwait(semaphore, clock, deadline); };
  if (IsFree(semaphore)) return real();
  return CancellableWait(Primitive::kSemClockwait, semaphore, real, SemaphoreWaited);
}

int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  WaitSlot* wait = g_contention.Begin(Primitive::kBarrierWait, nullptr, barrier);
  int result = g_real_locks.pthread_barrier_wait(barrier);
  g_contention.End(wait, result == 0);
  return result;
}

int pthread_join(pthread_t thread, void** result) {
  return Join(Primitive::kJoin, thread, result, [=] { return g_real_locks.pthread_join(thread, result); });
}

int pthread_timedjoin_np(pthread_t thread, void** result, const struct timespec* deadline) {
  return Join(Primitive::kTimedjoin, thread, result,
              [=] { return g_real_locks.pthread_timedjoin_np(thread, result, deadline); });
}

int pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock, const struct timespec* deadline) {
  auto real = [=] { return g_real_locks.pthread_clockjoin_np(thread, result, clock, deadline); };
  if (!IsWaitClock(clock)) return real();
  return Join(Primitive::kClockjoin, thread, result, real);
}

int thrd_join(thrd_t thread, int* result) {
  // thrd_t is a pthread_t, and a C11 thread's int comes as a pointer: libc's thrd_join does the same.
  void* value = nullptr;
  int error = g_real_locks.pthread_tryjoin_np(thread, &value);
  if (error == 0) {
    if (result != nullptr) *result = static_cast<int>(reinterpret_cast<intptr_t>(value));
    return thrd_success;
  }
  auto real = [=] { return g_real_locks.thrd_join(thread, result); };
  if (error != EBUSY) return real();
  return CancellableWait(Primitive::kThrdJoin, nullptr, real, HasWaitedC11);
}

}  // namespace instrumented
}  // namespace profagent
