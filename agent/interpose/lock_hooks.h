// Where the program's calls of blocking and unlocking functions go, and libc's functions behind them.
//
// Context:  Resolve and Use in `bootstrap`, Use later too (a rate was changed). RealLocks in `hook`.
// Why a table of its own beside real_functions.h: these calls cost nanoseconds, and are not looked at while no profile wants
//           them (lock_entries_x86_64.S).
// Versions: condition variables have two; the names without a prefix are GLIBC_2.3.2's. dlsym alone gave the older one before
//           glibc 2.36.
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>
#include <time.h>

#include "agent/interpose/lock_entries.h"

namespace profagent {

struct RealLocks {
#define PROF_LOCK_ENTRY(name, wanted_by) decltype(&::name) name;
  PROF_LOCK_ENTRIES
#undef PROF_LOCK_ENTRY
  decltype(&::pthread_mutex_trylock) pthread_mutex_trylock;
};
// Complete before any instrumented function can be called.
extern constinit RealLocks g_real_locks;

void ResolveLockFunctions();

// Which profiles are taken now.
void UseLockHooks(bool block, bool mutex);

// What stands in the place of libc's functions while a profile is taken. The names are libc's.
namespace instrumented {
#define PROF_LOCK_ENTRY(name, wanted_by) extern decltype(::name) name;
PROF_LOCK_ENTRIES
#undef PROF_LOCK_ENTRY
}  // namespace instrumented

}  // namespace profagent
