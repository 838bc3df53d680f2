// Takes a lock that is free as libc does, without a call.
//
// Context:  `hook`; LearnLocks in `bootstrap`.
// Why:      "try first" by libc's pthread_mutex_trylock is a call that saves five registers and goes through a jump table: 2.3 ns
//           of a pair that takes 7.4. It also locks the bus in a program with one thread, where pthread_mutex_lock does not: 8 ns.
// Believed: mutexes of the plain and the recursive kind and readers only, and only where libc's own functions were seen to leave
//           locks in the same state (LearnLocks): what programs have compiled in since 2007 and 2017 is still no interface. Not
//           with lock elision; not under valgrind, whose tools want to see every call; not where another library stands between us
//           and libc.
// Owner:    what libc has noted of the calling thread, and was seen to write into a mutex. A vfork child, or a raw clone without a
//           thread pointer of its own, is its parent to libc: here, too. chromium writes the note anew in what it clones into a
//           namespace of its own, looks at a mutex that it takes, and would abort.
#pragma once

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/single_threaded.h>

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/interpose/lock_hooks.h"

namespace profagent {

void LearnLocks(const RealLocks& real);

extern constinit bool g_mutexes_are_known;  // else libc's trylock is asked

// The owner that libc would write: tid of struct pthread, there from glibc 2.35 to this day. Were it elsewhere, no mutex would be
// as known.
PROF_ALWAYS_INLINE int OwnerInMutexes() {
  constexpr uintptr_t kThreadIdInLibc = 0x2d0;
  auto thread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  return __atomic_load_n(reinterpret_cast<const int*>(thread + kThreadIdInLibc), __ATOMIC_RELAXED);
}

// Instead of trylock, where a library has lock and lacks trylock: libc's would take the lock past it. What a look says to need no
// wait is left to lock. EBUSY: it does.
bool NeedsNoWait(const pthread_mutex_t* mutex);
int TryByLock(pthread_mutex_t* mutex) noexcept;
inline bool TriesByLock() { return g_real_locks.pthread_mutex_trylock == &TryByLock; }

// Without atomic instructions where libc does without.
PROF_ALWAYS_INLINE bool TakeWord(int* word) {
  int free = 0;
  if (__atomic_load_n(word, __ATOMIC_RELAXED) != free) return false;
  if (!__libc_single_threaded)
    return __atomic_compare_exchange_n(word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
  *word = 1;
  return true;
}

// Of the plain kind: 0, it is ours now; EBUSY, somebody holds it.
PROF_ALWAYS_INLINE int TryFree(pthread_mutex_t* mutex) {
  auto& data = mutex->__data;
  if (!g_mutexes_are_known) [[unlikely]]
    return g_real_locks.pthread_mutex_trylock(mutex);
  if (!TakeWord(&data.__lock)) return EBUSY;
  data.__owner = OwnerInMutexes();
  ++data.__nusers;
  return 0;
}

// Of the recursive kind: 0, it is ours now, maybe once more; EBUSY, somebody else holds it; EAGAIN, it is ours too often.
PROF_ALWAYS_INLINE int TryFreeOrOurs(pthread_mutex_t* mutex) {
  auto& data = mutex->__data;
  if (!g_mutexes_are_known) [[unlikely]]
    return g_real_locks.pthread_mutex_trylock(mutex);
  int owner = OwnerInMutexes();
  if (__atomic_load_n(&data.__owner, __ATOMIC_RELAXED) == owner) {
    if (data.__count == UINT_MAX) return EAGAIN;
    ++data.__count;
    return 0;
  }
  if (!TakeWord(&data.__lock)) return EBUSY;
  data.__count = 1;
  data.__owner = owner;
  ++data.__nusers;
  return 0;
}

// libc's PTHREAD_RWLOCK_READER_SHIFT and _READER_OVERFLOW: below the count of readers are bits that no writer leaves at 0.
inline constexpr uint32_t kReaderShift = 3;
inline constexpr uint32_t kReaderOverflow = 1u << 31;
inline constexpr uint32_t kOneReader = 1u << kReaderShift;

extern constinit bool g_readers_are_known;

// Whether it is ours now, beside other readers. False: ask libc.
PROF_ALWAYS_INLINE bool TryFreeToRead(pthread_rwlock_t* lock) {
  uint32_t* word = &lock->__data.__readers;
  uint32_t readers = __atomic_load_n(word, __ATOMIC_RELAXED);
  return g_readers_are_known && (readers & (kOneReader - 1)) == 0 && readers + kOneReader < kReaderOverflow &&
         __atomic_compare_exchange_n(word, &readers, readers + kOneReader, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED);
}

}  // namespace profagent
