// The functions that block and mutex profiles stand before, as one list for the assembler and the compiler.
//
// PROF_LOCK_ENTRY(name, wanted_by): a libc function of that name. `wanted_by` says for which profile the program's calls are
//     looked at: Block, Mutex, or Either of them; otherwise they go straight to libc. Agent: for any.
// PROF_LOCK_ALIAS(alias, name): another name that libc has for it.
// PROF_COND_ENTRY(name, wanted_by): one that exists twice, as GLIBC_2.3.2 and as GLIBC_2.2.5: programs that were linked before
//     2002 have condition variables of another structure, which only the functions of that version understand.
// PROF_LOCK_TRY(name): is not stood before, but called by our hooks.
#pragma once

// clang-format off
#define PROF_LOCK_ENTRIES                                \
  PROF_LOCK_ENTRY(pthread_mutex_lock, Either)            \
  PROF_LOCK_ENTRY(pthread_mutex_timedlock, Either)       \
  PROF_LOCK_ENTRY(pthread_mutex_clocklock, Either)       \
  PROF_LOCK_ENTRY(pthread_mutex_unlock, Mutex)           \
  PROF_LOCK_ENTRY(pthread_rwlock_rdlock, Either)         \
  PROF_LOCK_ENTRY(pthread_rwlock_timedrdlock, Either)    \
  PROF_LOCK_ENTRY(pthread_rwlock_clockrdlock, Either)    \
  PROF_LOCK_ENTRY(pthread_rwlock_wrlock, Either)         \
  PROF_LOCK_ENTRY(pthread_rwlock_timedwrlock, Either)    \
  PROF_LOCK_ENTRY(pthread_rwlock_clockwrlock, Either)    \
  PROF_LOCK_ENTRY(pthread_rwlock_unlock, Mutex)          \
  PROF_LOCK_ENTRY(pthread_spin_lock, Either)             \
  PROF_LOCK_ENTRY(pthread_spin_unlock, Mutex)            \
  PROF_LOCK_ENTRY(mtx_lock, Either)                      \
  PROF_LOCK_ENTRY(mtx_timedlock, Either)                 \
  PROF_LOCK_ENTRY(mtx_unlock, Mutex)                     \
  PROF_LOCK_ENTRY(pthread_cond_clockwait, Either)        \
  PROF_LOCK_ENTRY(cnd_wait, Either)                      \
  PROF_LOCK_ENTRY(cnd_timedwait, Either)                 \
  PROF_LOCK_ENTRY(cnd_signal, Mutex)                     \
  PROF_LOCK_ENTRY(cnd_broadcast, Mutex)                  \
  PROF_LOCK_ENTRY(pthread_barrier_wait, Block)           \
  PROF_LOCK_ENTRY(sem_wait, Block)                       \
  PROF_LOCK_ENTRY(sem_timedwait, Block)                  \
  PROF_LOCK_ENTRY(sem_clockwait, Block)                  \
  PROF_LOCK_ENTRY(pthread_join, Block)                   \
  PROF_LOCK_ENTRY(pthread_timedjoin_np, Block)           \
  PROF_LOCK_ENTRY(pthread_clockjoin_np, Block)           \
  PROF_LOCK_ENTRY(thrd_join, Block)

#define PROF_COND_ENTRIES                                \
  PROF_COND_ENTRY(pthread_cond_wait, Either)             \
  PROF_COND_ENTRY(pthread_cond_timedwait, Either)        \
  PROF_COND_ENTRY(pthread_cond_signal, Mutex)            \
  PROF_COND_ENTRY(pthread_cond_broadcast, Mutex)

#define PROF_LOCK_ALIASES                                         \
  PROF_LOCK_ALIAS(__pthread_mutex_lock, pthread_mutex_lock)       \
  PROF_LOCK_ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock)   \
  PROF_LOCK_ALIAS(__pthread_rwlock_rdlock, pthread_rwlock_rdlock) \
  PROF_LOCK_ALIAS(__pthread_rwlock_wrlock, pthread_rwlock_wrlock) \
  PROF_LOCK_ALIAS(__pthread_rwlock_unlock, pthread_rwlock_unlock)

// Of another type here than in libc's headers, which leave its arguments open.
#define PROF_SYSCALL_ENTRIES PROF_SYSCALL_ENTRY(syscall, Agent)

#define PROF_LOCK_TRIES                                  \
  PROF_LOCK_TRY(pthread_mutex_trylock)                   \
  PROF_LOCK_TRY(pthread_rwlock_tryrdlock)                \
  PROF_LOCK_TRY(pthread_rwlock_trywrlock)                \
  PROF_LOCK_TRY(pthread_spin_trylock)                    \
  PROF_LOCK_TRY(mtx_trylock)                             \
  PROF_LOCK_TRY(pthread_tryjoin_np)
// clang-format on
