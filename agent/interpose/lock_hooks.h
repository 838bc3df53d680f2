// Where the program's calls of blocking and unlocking functions go, and libc's functions behind them.
//
// Context:  Resolve and Use in `bootstrap`; Use in `hook`, too, when recording ends or begins again (fork, sandbox, a fault of ours).
//           g_real_locks in `hook`.
// Why a table of its own beside real_functions.h: these calls cost nanoseconds, and are not looked at while no profile wants
//           them (lock_entries_x86_64.S).
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "agent/interpose/idle_hooks.h"
#include "agent/interpose/lock_entries.h"

namespace profagent {

// libc's syscall reads a number and six arguments, given or not.
using SystemCall = long(long number, long a, long b, long c, long d, long e, long f);

// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are names, which these declare
struct RealLocks {
#define PROF_LOCK_ENTRY(name, wanted_by) decltype(&::name) name;
#define PROF_COND_ENTRY(name, wanted_by) decltype(&::name) new_##name, old_##name;
#define PROF_SYSCALL_ENTRY(name, wanted_by) SystemCall* name;
#define PROF_LOCK_TRY(name) decltype(&::name) name;
  PROF_LOCK_ENTRIES
  PROF_COND_ENTRIES
  PROF_SYSCALL_ENTRIES
  PROF_LOCK_TRIES
#undef PROF_LOCK_ENTRY
#undef PROF_COND_ENTRY
#undef PROF_SYSCALL_ENTRY
#undef PROF_LOCK_TRY
};
// Complete before any instrumented function can be called.
extern constinit RealLocks g_real_locks;

void ResolveLockFunctions();

// The program has the thread sanitizer's runtime, which stands before the same functions and takes what we do with them for the
// program's own: races that are none, and an exit status of 66.
bool HasThreadSanitizer();

// Which profiles are taken now. Not called at all: no agent is at work.
void UseLockHooks(bool block, bool mutex);

// Those that these profiles do not need.
void AddIdleLockHooks(bool block, bool mutex, IdleHooks* idle);

// What stands in the place of libc's functions while a profile is taken. The names are libc's.
namespace instrumented {
#define PROF_LOCK_ENTRY(name, wanted_by) extern decltype(::name) name;
#define PROF_COND_ENTRY(name, wanted_by) extern decltype(::name) new_##name, old_##name;
#define PROF_SYSCALL_ENTRY(name, wanted_by) extern SystemCall name;
PROF_LOCK_ENTRIES
PROF_COND_ENTRIES
PROF_SYSCALL_ENTRIES
#undef PROF_LOCK_ENTRY
#undef PROF_COND_ENTRY
#undef PROF_SYSCALL_ENTRY
}  // namespace instrumented
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace profagent
