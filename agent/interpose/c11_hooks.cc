// C11's mutexes. libc's mtx_t is a pthread_mutex_t by another name, and its functions do not pass through those of pthread
// that we stand before.
//
// Context: `hook`; as mutex_hooks.cc.
#include <threads.h>

#include "agent/capture/contention.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {
namespace {

__attribute__((noinline)) int UnlockSlept(mtx_t* mutex) {
  auto real = [mutex] { return g_real_locks.mtx_unlock(mutex); };
  if (!EndsAWait(Inside(mutex))) return real();
  static_assert(thrd_success == 0);
  return ChargedUnlock(Primitive::kMtxUnlock, mutex, real);
}

}  // namespace

namespace instrumented {

int mtx_lock(mtx_t* mutex) {
  int status = g_real_locks.mtx_trylock(mutex);
  if (status != thrd_busy) [[likely]]
    return status;
  WaitSlot* wait = g_contention.Begin(Primitive::kMtxLock, mutex);
  status = g_real_locks.mtx_lock(mutex);
  g_contention.End(wait, HasWaitedC11(status));
  return status;
}

int mtx_timedlock(mtx_t* __restrict mutex, const struct timespec* __restrict deadline) {
  int status = g_real_locks.mtx_trylock(mutex);
  if (status != thrd_busy) return status;
  WaitSlot* wait = g_contention.Begin(Primitive::kMtxTimedlock, mutex);
  status = g_real_locks.mtx_timedlock(mutex, deadline);
  g_contention.End(wait, HasWaitedC11(status));
  return status;
}

int mtx_unlock(mtx_t* mutex) {
  if (NobodySleptFor(Inside(mutex))) [[likely]]
    return g_real_locks.mtx_unlock(mutex);
  return UnlockSlept(mutex);
}

}  // namespace instrumented
}  // namespace profagent
