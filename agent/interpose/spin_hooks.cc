// pthread_spin_*: waits that burn a processor.
//
// Context: `hook`; as mutex_hooks.cc.
// Worth it: spin locks are held for nanoseconds, and an unlock that reads the clock because somebody spins would double that for
//          all. So a wait is looked at only when it has lasted longer than a section should, some microseconds: the
//          holder was stopped, or does what does not belong there. Shorter ones are not in the profiles.
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

constexpr int kTries = 64;
constexpr int kPausesATry = 4;

// EBUSY: it is still held after some microseconds.
__attribute__((noinline)) int SpinAWhile(pthread_spinlock_t* lock) {
  for (int i = 0; i < kTries; ++i) {
    for (int pause = 0; pause < kPausesATry; ++pause) __builtin_ia32_pause();
    int error = g_real_locks.pthread_spin_trylock(lock);
    if (error != EBUSY) return error;
  }
  return EBUSY;
}

}  // namespace

namespace instrumented {

int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  int error = g_real_locks.pthread_spin_trylock(lock);
  if (error != EBUSY) [[likely]]
    return error;
  error = SpinAWhile(lock);
  if (error != EBUSY) return error;
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
