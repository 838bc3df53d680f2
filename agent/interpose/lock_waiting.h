// What the hooks of blocking functions have in common.
//
// Context: `hook`.
// Deadlines: a hook that tries first must not succeed where libc would have refused the deadline, so what libc refuses goes
//            straight to libc. Its functions differ in what they look at before they try (glibc 2.36): pthread_mutex_clocklock
//            at the clock, rwlocks at clock and nanoseconds, pthread_mutex_timedlock at nothing.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

#include "agent/base/function_ref.h"
#include "agent/base/raw_syscall.h"
#include "agent/capture/contention.h"
#include "agent/interpose/free_locks.h"
#include "agent/interpose/lock_hooks.h"

// Of libc, which its headers no longer declare.
extern "C" void _pthread_cleanup_push(_pthread_cleanup_buffer* buffer, void (*routine)(void*),
                                      void* argument) noexcept;
extern "C" void _pthread_cleanup_pop(_pthread_cleanup_buffer* buffer, int execute) noexcept;

namespace profagent {

// Whether a call that came back with `error` has waited for what it came for. The other errors say that it never began.
inline bool HasWaited(int error) {
  return error == 0 || error == ETIMEDOUT || error == EOWNERDEAD || error == ENOTRECOVERABLE;
}
inline bool HasWaitedC11(int status) { return status == thrd_success || status == thrd_timedout; }

inline bool IsWaitClock(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC; }
inline bool IsDeadline(const struct timespec* deadline) {
  return deadline != nullptr && deadline->tv_nsec >= 0 && deadline->tv_nsec < 1'000'000'000;
}

// For a lock that is in other hands, by libc's own function. Not for a cancellation point.
__attribute__((noinline)) inline int WaitForLock(Primitive primitive, const void* lock,
                                                 FunctionRef<int()> real) {
  WaitSlot* wait = g_contention.Begin(primitive, lock);
  int error = real();
  g_contention.End(wait, HasWaited(error));
  return error;
}

inline void AbandonCancelled(void* wait) { g_contention.Abandon(static_cast<WaitSlot*>(wait)); }

// libc's function, where that is a cancellation point: a thread that is cancelled in it takes its wait back. The handler is on
// the list that libc's own waits use, which a longjmp out of a signal handler shortens too. (pthread_cleanup_push is a setjmp
// without exceptions: such a jump leaves it behind, and the thread's end would go back to a frame that is gone.)
template <class Call>
__attribute__((noinline)) int CallCancellably(WaitSlot* wait, const Call& call) {
  _pthread_cleanup_buffer buffer;
  _pthread_cleanup_push(&buffer, AbandonCancelled, wait);
  int result = call();
  _pthread_cleanup_pop(&buffer, 0);
  return result;
}

// An unlock that ends a wait. What is done before the release is inside the critical section.
template <class Release>
PROF_ALWAYS_INLINE int ChargedUnlock(Primitive primitive, const void* lock, Release&& release) {
  UnlockCharge charge = g_contention.Unlock(lock);
  int error = release();
  if (error == 0 && charge.any()) g_contention.RecordUnlock(primitive, lock, charge);
  return error;
}

// What libc's headers call PTHREAD_MUTEX_KIND_MASK_NP inside: the kind without robust, PI and the like.
inline constexpr int kMutexKindMask = 3;
inline constexpr int kMutexRobust = 16;
inline constexpr int kMutexInherits = 32;
inline constexpr int kMutexNeverElided = 512;       // pthread_mutexattr_settype with PTHREAD_MUTEX_NORMAL
inline constexpr int kMutexOwnerMask = 0x3fffffff;  // of the word of those two

// A level of a recursive mutex that is not the last: its unlock releases nothing.
inline bool IsInnerLevel(const pthread_mutex_t* mutex) {
  return (mutex->__data.__kind & kMutexKindMask) == PTHREAD_MUTEX_RECURSIVE && mutex->__data.__count > 1;
}

// libc refuses its unlock (EPERM): another thread has it, and it is of a kind that asks. Where somebody sleeps for it, a system
// call for our number is nothing beside the one that wakes.
__attribute__((noinline)) inline bool IsOthers(const pthread_mutex_t* mutex) {
  int kind = mutex->__data.__kind;
  int type = kind & kMutexKindMask;
  bool asks = type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK ||
              (kind & (kMutexRobust | kMutexInherits)) != 0;
  return asks && __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED) != RawSyscall(SYS_gettid);
}

// libc's lock word says that a thread sleeps, or slept a moment ago: the unlock will wake it. (A mutex that libc took back in a
// wait at a condition variable always says so.)
inline bool HasSleepers(const pthread_mutex_t* mutex) {
  auto word = static_cast<uint32_t>(__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED));
  bool holds_owner = (mutex->__data.__kind & (kMutexRobust | kMutexInherits)) != 0;
  return holds_owner ? (word & 0x80000000) != 0 : word > 1;  // FUTEX_WAITERS
}

// Whether it is held and nobody has slept for it since it was free, so that its unlock ends no wait. False, for as long as it
// is held, where the holder itself has; and for the kinds whose word names the owner.
PROF_ALWAYS_INLINE bool NobodySleptFor(const pthread_mutex_t* mutex) {
  return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) == 1;
}

// What libc has in a C11 mutex.
inline const pthread_mutex_t* Inside(const mtx_t* mutex) {
  return reinterpret_cast<const pthread_mutex_t*>(mutex);
}

// Whether its unlock ends a wait that we know of.
inline bool EndsAWait(const pthread_mutex_t* mutex) {
  return g_contention.MayWaitFor(mutex) && HasSleepers(mutex) && !IsInnerLevel(mutex) && !IsOthers(mutex);
}

// Takes the mutex if that needs no wait; EBUSY: it does. Else what libc's trylock says, which is not asked of
// - the plain kind and the recursive one (free_locks.h);
// - a robust one that nobody holds: if that is not recoverable, it says so but keeps it, and the next to lock it waits for ever.
//   `lock` has the answer.
template <class Lock>
PROF_ALWAYS_INLINE int TryFirst(pthread_mutex_t* mutex, const Lock& lock) {
  int kind = mutex->__data.__kind;
  if ((kind & ~kMutexNeverElided) == PTHREAD_MUTEX_TIMED_NP) [[likely]]
    return TryFree(mutex);
  if (kind == PTHREAD_MUTEX_RECURSIVE_NP) return TryFreeOrOurs(mutex);
  if ((kind & kMutexRobust) != 0) [[unlikely]] {
    int word = __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED);
    if ((word & kMutexOwnerMask) == 0) return lock();
    if ((kind & kMutexKindMask) != PTHREAD_MUTEX_RECURSIVE) return EBUSY;
  }
  return g_real_locks.pthread_mutex_trylock(mutex);
}

}  // namespace profagent
