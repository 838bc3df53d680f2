#include "agent/interpose/lock_hooks.h"

#include <atomic>

#include "agent/interpose/free_locks.h"
#include "agent/interpose/loaded_object.h"
#include "agent/interpose/real_functions.h"

// Words of lock_entries_x86_64.S.
#define PROF_ENTRY_WORDS(name)              \
  extern "C" void* profagent_target_##name; \
  extern "C" __attribute__((visibility("hidden"))) void profagent_entry_##name();
#define PROF_LOCK_ENTRY(name, wanted_by) PROF_ENTRY_WORDS(name)
#define PROF_COND_ENTRY(name, wanted_by) PROF_ENTRY_WORDS(new_##name) PROF_ENTRY_WORDS(old_##name)
#define PROF_SYSCALL_ENTRY PROF_LOCK_ENTRY
PROF_LOCK_ENTRIES
PROF_COND_ENTRIES
PROF_SYSCALL_ENTRIES
#undef PROF_LOCK_ENTRY
#undef PROF_COND_ENTRY
#undef PROF_SYSCALL_ENTRY
#undef PROF_ENTRY_WORDS

// Of the thread sanitizer's runtime. Not asked of dlsym: what it does not find takes memory on the program's heap, and is what
// the program's dlerror tells.
extern "C" __attribute__((weak, visibility("default"))) void __tsan_init();

namespace profagent {

constinit RealLocks g_real_locks{};

namespace {

enum class WantedBy { kBlock, kMutex, kEither, kAgent };

struct LockHook {
  const char* name;
  const char* version;  // nullptr: the newest
  void (*entry)();      // the exported function
  void** target;        // where it jumps
  void** original;
  void* instrumented;
  WantedBy wanted_by;
};

#define PROF_HOOK(libc_name, version, name, wanted_by) \
  {#libc_name,                                         \
   version,                                            \
   &profagent_entry_##name,                            \
   &profagent_target_##name,                           \
   reinterpret_cast<void**>(&g_real_locks.name),       \
   reinterpret_cast<void*>(&instrumented::name),       \
   WantedBy::k##wanted_by},
#define PROF_LOCK_ENTRY(name, wanted_by) PROF_HOOK(name, nullptr, name, wanted_by)
#define PROF_COND_ENTRY(name, wanted_by)                \
  PROF_HOOK(name, "GLIBC_2.3.2", new_##name, wanted_by) \
  PROF_HOOK(name, kOldVersion, old_##name, wanted_by)
#define PROF_SYSCALL_ENTRY PROF_LOCK_ENTRY
const LockHook kHooks[] = {PROF_LOCK_ENTRIES PROF_COND_ENTRIES PROF_SYSCALL_ENTRIES};
#undef PROF_HOOK
#undef PROF_LOCK_ENTRY
#undef PROF_COND_ENTRY
#undef PROF_SYSCALL_ENTRY

struct TryFunction {
  const char* name;
  void** original;
};
#define PROF_LOCK_TRY(name) {#name, reinterpret_cast<void**>(&g_real_locks.name)},
const TryFunction kTries[] = {PROF_LOCK_TRIES};
#undef PROF_LOCK_TRY

constinit std::atomic<bool> g_resolved{false};  // release: g_real_locks is complete

void SetTarget(const LockHook& hook, void* target) {
  // A function that this libc lacks cannot have been called by a symbol that never was.
  if (target != nullptr) __atomic_store_n(hook.target, target, __ATOMIC_RELEASE);
}

bool IsWanted(const LockHook& hook, bool block, bool mutex) {
  return (block && hook.wanted_by != WantedBy::kMutex) || (mutex && hook.wanted_by != WantedBy::kBlock) ||
         hook.wanted_by == WantedBy::kAgent;
}

}  // namespace

// Two threads may do this at once: both write the same.
void ResolveLockFunctions() {
  if (g_resolved.load(std::memory_order_acquire)) return;
  for (const TryFunction& function : kTries) *function.original = FindReal(function.name, nullptr);
  for (const LockHook& hook : kHooks) *hook.original = FindReal(hook.name, hook.version);
  bool have_one_owner = ObjectAt(reinterpret_cast<void*>(g_real_locks.pthread_mutex_lock)) ==
                        ObjectAt(reinterpret_cast<void*>(g_real_locks.pthread_mutex_trylock));
  if (!have_one_owner) g_real_locks.pthread_mutex_trylock = &TryByLock;
  for (const LockHook& hook : kHooks) SetTarget(hook, *hook.original);
  g_resolved.store(true, std::memory_order_release);
}

bool HasThreadSanitizer() { return __tsan_init != nullptr; }

void UseLockHooks(bool block, bool mutex) {
  ResolveLockFunctions();
  if (block || mutex) LearnLocks(g_real_locks);
  for (const LockHook& hook : kHooks) {
    bool wanted = IsWanted(hook, block, mutex);
    SetTarget(hook, wanted && *hook.original != nullptr ? hook.instrumented : *hook.original);
  }
}

void AddIdleLockHooks(bool block, bool mutex, IdleHooks* idle) {
  ResolveLockFunctions();
  for (const LockHook& hook : kHooks) {
    if (!IsWanted(hook, block, mutex)) idle->Add(hook.entry, *hook.original);
  }
}

}  // namespace profagent

extern "C" __attribute__((visibility("hidden"))) void profagent_resolve_lock_functions() {
  profagent::ResolveLockFunctions();
}
