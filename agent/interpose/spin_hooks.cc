// pthread_spin_*: waits that burn a processor.
//
// Context: `hook`; as mutex_hooks.cc. Spin locks are meant to be held for nanoseconds, so the wait is recorded only where the
//          first try failed; at the default BLOCKRATE a wait of 50 ns is drawn once in 200 times.
#include <errno.h>
#include <pthread.h>

#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

__attribute__((noinline)) int UnlockWanted(pthread_spinlock_t* lock) {
  return ChargedUnlock(Primitive::kSpinUnlock, const_cast<const int*>(lock),
                       [lock] { return g_real_locks.pthread_spin_unlock(lock); });
}

}  // namespace

namespace instrumented {

int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  int error = g_real_locks.pthread_spin_trylock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  WaitSlot* wait = g_contention.Begin(Primitive::kSpinLock, const_cast<const int*>(lock));
  error = g_real_locks.pthread_spin_lock(lock);
  g_contention.End(wait, HasWaited(error));
  return error;
}

int pthread_spin_unlock(pthread_spinlock_t* lock) noexcept {
  if (!g_contention.MayWaitFor(const_cast<const int*>(lock))) [[likely]]
    return g_real_locks.pthread_spin_unlock(lock);
  return UnlockWanted(lock);
}

}  // namespace instrumented
}  // namespace profagent
