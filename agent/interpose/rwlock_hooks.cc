// pthread_rwlock_*: readers and writers who wait, and whose unlock lets them in.
//
// Context:  `hook`; as mutex_hooks.cc.
// Unlock:   ends a wait when the lock is free afterwards. A reader's unlock while others still read ends none: it is charged
//           with nothing, and the last one out is charged with all. Who that is, is read from the lock before the release: two
//           readers who leave in the same instant may both see the other one still there; then the next holder pays.
#include <errno.h>
#include <pthread.h>

#include "agent/capture/contention.h"
#include "agent/interpose/free_locks.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

// libc's PTHREAD_RWLOCK_RWAITING and _FUTEX_USED.
constexpr uint32_t kReadersSleep = 4;
constexpr uint32_t kFutexUsed = 2;

uint32_t Load(const unsigned int& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); }

// As of a mutex (mutex_hooks.cc): an unlock ends a wait when it wakes somebody.
bool HasSleepers(const pthread_rwlock_t* lock) {
  const auto& data = lock->__data;
  return ((Load(data.__wrphase_futex) | Load(data.__writers_futex)) & kFutexUsed) != 0 ||
         (Load(data.__readers) & kReadersSleep) != 0;
}

// The calling thread holds it, and so do other readers. While a writer holds it the count is of readers who wait.
bool IsSharedWithOthers(const pthread_rwlock_t* lock) {
  return __atomic_load_n(&lock->__data.__cur_writer, __ATOMIC_RELAXED) == 0 &&
         Load(lock->__data.__readers) >> kReaderShift > 1;
}

template <class Try, class Wait>
PROF_ALWAYS_INLINE int Lock(Primitive primitive, pthread_rwlock_t* lock, Try try_lock, Wait wait_for_lock) {
  int error = try_lock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  return WaitForLock(primitive, lock, wait_for_lock);
}

PROF_ALWAYS_INLINE int TryToRead(pthread_rwlock_t* lock) {
  return TryFreeToRead(lock) ? 0 : g_real_locks.pthread_rwlock_tryrdlock(lock);
}

__attribute__((noinline)) int UnlockWanted(pthread_rwlock_t* lock) {
  if (!HasSleepers(lock) || IsSharedWithOthers(lock)) return g_real_locks.pthread_rwlock_unlock(lock);
  return ChargedUnlock(Primitive::kRwlockUnlock, lock,
                       [lock] { return g_real_locks.pthread_rwlock_unlock(lock); });
}

}  // namespace

namespace instrumented {

int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  return Lock(Primitive::kRwlockRdlock, lock, TryToRead,
              [=] { return g_real_locks.pthread_rwlock_rdlock(lock); });
}

int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  return Lock(Primitive::kRwlockWrlock, lock, g_real_locks.pthread_rwlock_trywrlock,
              [=] { return g_real_locks.pthread_rwlock_wrlock(lock); });
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock, const struct timespec* deadline) noexcept {
  auto real = [=] { return g_real_locks.pthread_rwlock_timedrdlock(lock, deadline); };
  if (!IsDeadline(deadline)) return real();
  return Lock(Primitive::kRwlockTimedrdlock, lock, TryToRead, real);
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock, const struct timespec* deadline) noexcept {
  auto real = [=] { return g_real_locks.pthread_rwlock_timedwrlock(lock, deadline); };
  if (!IsDeadline(deadline)) return real();
  return Lock(Primitive::kRwlockTimedwrlock, lock, g_real_locks.pthread_rwlock_trywrlock, real);
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock,
                               const struct timespec* deadline) noexcept {
  auto real = [=] { return g_real_locks.pthread_rwlock_clockrdlock(lock, clock, deadline); };
  if (!IsWaitClock(clock) || !IsDeadline(deadline)) return real();
  return Lock(Primitive::kRwlockClockrdlock, lock, TryToRead, real);
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock,
                               const struct timespec* deadline) noexcept {
  auto real = [=] { return g_real_locks.pthread_rwlock_clockwrlock(lock, clock, deadline); };
  if (!IsWaitClock(clock) || !IsDeadline(deadline)) return real();
  return Lock(Primitive::kRwlockClockwrlock, lock, g_real_locks.pthread_rwlock_trywrlock, real);
}

int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  if (!g_contention.MayWaitFor(lock)) [[likely]]
    return g_real_locks.pthread_rwlock_unlock(lock);
  return UnlockWanted(lock);
}

}  // namespace instrumented
}  // namespace profagent
