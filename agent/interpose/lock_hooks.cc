#include "agent/interpose/lock_hooks.h"

#include <dlfcn.h>

#include <atomic>

namespace profagent {
namespace {

enum class WantedBy { Block, Mutex, Either };

struct LockHook {
  const char* name;
  void** target;   // where the exported function jumps
  void** original;
  void* instrumented;
  WantedBy wanted_by;
};

}  // namespace
}  // namespace profagent

#define PROF_LOCK_ENTRY(name, wanted_by) extern "C" void* profagent_target_##name;
PROF_LOCK_ENTRIES
#undef PROF_LOCK_ENTRY

namespace profagent {

constinit RealLocks g_real_locks{};

namespace {

#define PROF_LOCK_ENTRY(name, wanted_by)                                           \
  {#name, &profagent_target_##name, reinterpret_cast<void**>(&g_real_locks.name),  \
   reinterpret_cast<void*>(&instrumented::name), WantedBy::wanted_by},
const LockHook kHooks[] = {PROF_LOCK_ENTRIES};
#undef PROF_LOCK_ENTRY

constinit std::atomic<bool> g_resolved{false};

void* Find(const char* name) {
  void* found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
  return found != nullptr ? found : dlsym(RTLD_NEXT, name);
}

void SetTarget(const LockHook& hook, void* target) { __atomic_store_n(hook.target, target, __ATOMIC_RELEASE); }

}  // namespace

// Two threads may do this at once: both write the same.
void ResolveLockFunctions() {
  if (g_resolved.load(std::memory_order_acquire)) return;
  RealLocks& real = g_real_locks;
  real.pthread_mutex_trylock =
      reinterpret_cast<decltype(real.pthread_mutex_trylock)>(Find("pthread_mutex_trylock"));
  for (const LockHook& hook : kHooks) *hook.original = Find(hook.name);
  for (const LockHook& hook : kHooks) SetTarget(hook, *hook.original);
  g_resolved.store(true, std::memory_order_release);
}

void UseLockHooks(bool block, bool mutex) {
  ResolveLockFunctions();
  for (const LockHook& hook : kHooks) {
    bool wanted = (block && hook.wanted_by != WantedBy::Mutex) || (mutex && hook.wanted_by != WantedBy::Block);
    SetTarget(hook, wanted ? hook.instrumented : *hook.original);
  }
}

}  // namespace profagent

extern "C" __attribute__((visibility("hidden"))) void profagent_resolve_lock_functions() {
  profagent::ResolveLockFunctions();
}
