// The functions that block and mutex profiles stand before, as one list for the assembler and the compiler.
//
// PROF_LOCK_ENTRY(name, wanted_by): a libc function of that name. `wanted_by` says for which profile the program's calls are
// looked at: Block, Mutex, or Either of them; otherwise they go straight to libc.
// PROF_OLD_COND_ENTRY(name, wanted_by): the same name as it was before glibc 2.3.2, for programs and libraries that were linked
// then: their condition variables are another structure, which only the functions of that version understand.
#pragma once

// clang-format off
#define PROF_LOCK_ENTRIES                                \
  PROF_LOCK_ENTRY(pthread_mutex_lock, Either)            \
  PROF_LOCK_ENTRY(pthread_mutex_timedlock, Either)       \
  PROF_LOCK_ENTRY(pthread_mutex_clocklock, Either)       \
  PROF_LOCK_ENTRY(pthread_mutex_unlock, Mutex)
// clang-format on
