// Block and mutex profiles: which waits and which unlocks are recorded, and with what weight.
//
// Context:   Start in `bootstrap`; everything else in `hook`, which includes the application's own signal handlers,
//            allocators that lock, threads that are being cancelled and forked children. No lock, no allocation, no waiting,
//            errno untouched.
// Block:     a wait is sampled with the probability min(1, t / rate), and weighs what BlockSample says. The draw comes first
//            (a threshold T, uniform in [0, rate); sampled when t >= T), so that the profile of a process whose threads wait
//            still can be drawn likewise.
// Before:    stack and site are interned before the wait begins. That delays nobody: the lock is in other hands. The one
//            exception is a condition variable, whose wait begins with the mutex held (agent/interpose/cond_hooks.cc).
// After:     when the wait has ended, which for a lock is inside the critical section, only the clock is read and its length
//            is written into the thread's WaiterRecord; counters are added when the thread waits next, or ends. The record is
//            in the ledger, and the encoder counts what it finds there. So nothing is late in a profile, and nothing is lost
//            when the process is killed. (Adding in the unlock instead would have every unlock after a wait look for it.)
// Mutex:     one wait in `mutex_fraction` is drawn when it begins, and stands for that many: LockWaits charges its time to the
//            unlocks that it waits through. They are recorded with the stack of the unlocker, walked after the release. (Go
//            draws unlocks. The sums are the same on average, and of ten waits nine leave the lock's unlocks alone.)
// Count:     an unlock ends one wait. Of the K that wait, k were drawn, one in n: it counts as n * k / K, which is 1 on average
//            whatever K is, and 1 exactly for n = 1.
// Condition: a wait at a condition variable unlocks its mutex and takes it back. The first is an unlock like any other; the
//            second is contention of the mutex from the moment of the signal (ConditionWaits).
// Late:      who was not drawn and slept for a mutex stops being counted as its waiter after it has unlocked it (LeaveLate): the
//            count is changed by all who wait, and fetching its cache line would lengthen every critical section.
// Abandoned: a wait that a siglongjmp or a cancellation left is taken back: at once where libc runs our cleanup handler,
//            else when this thread comes here again from further up its stack.
// Records:   a thread keeps those that it took, for its next wait, and gives them back when it ends. One whose end nobody will
//            tell (libc made it itself, as for SIGEV_THREAD) gives each back with its wait: kept, they would be taken for ever.
// Labels:    with PROFAGENT_LOCK_LABELS a site is of one stack and one lock (agent/ledger/lock_label.h); for a wait without a
//            lock, of what is waited at.
// Depth:     the primitive (PrimitiveFrame) is a frame like any other: a stack has at most max_depth frames with it.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/units.h"
#include "agent/capture/condition_waits.h"
#include "agent/capture/lock_waits.h"
#include "agent/capture/scratch_pool.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

// One wait of this thread, from Begin to End; a thread has several when a signal handler waits too. Plain data in
// thread-local storage.
struct WaitSlot {
  WaiterRecord* record;  // this thread's for as long as it lives; nullptr: none yet
  uintptr_t frame;       // where on the stack the wait is; 0: nowhere
  bool recorded;         // the block profile wants it
  RecordId stack;        // of its beginning; 0: not walked
  uint64_t since;
  uint64_t threshold;
  const void* lock;  // what it arrived at; of a condition: its mutex
  LockWaits::Arrival arrival;
  const void* condition;
  uint32_t condition_entry;  // plus one; 0: none
};

// What an unlock is charged with.
struct UnlockCharge {
  LockWaits::Charge drawn;  // by those who wait for the lock and were drawn
  LockWaits::Charge woken;  // by those whom a condition variable woke, all of them
  uint32_t others;          // who wait for the lock and were not drawn
  bool any() const { return drawn.waited.value != 0 || woken.waited.value != 0; }
};

struct ThreadWaits {
  static constexpr uint32_t kSlots = 4;
  WaitSlot slots[kSlots];
  uint32_t depth;    // slots in use
  const void* late;  // a lock that this thread holds and is still counted among the waiters of; nullptr: none
  uint32_t tid;      // 0: not asked yet
  uint64_t random;   // 0: not seeded
  bool ended;  // what waits still (destructors of thread-local objects, cleanup handlers) keeps no record
};
extern __thread ThreadWaits t_waits __attribute__((tls_model("initial-exec")));

class Contention {
 public:
  struct Settings {
    Ledger* ledger;
    Unwinder* unwinder;
    uint64_t block_rate;      // ns; 0: no block profile
    uint64_t mutex_fraction;  // 1 in n; 0: no mutex profile
    uint32_t max_depth;
    bool lock_labels;
  };

  void Start(const Settings& settings);
  // From now on. What was recorded keeps its value.
  void SetRates(uint64_t block_rate, uint64_t mutex_fraction);
  uint64_t block_rate() const { return block_rate_.load(std::memory_order_relaxed); }
  uint64_t mutex_fraction() const { return mutex_fraction_.load(std::memory_order_relaxed); }

  // In a forked child, whose ledger is new (or closed: `record` false).
  void RestartAfterFork(bool record);

  // A wait in `primitive` begins. `lock`: whose unlock will end it; nullptr: no lock. nullptr: nothing to end.
  // `object`: what is waited at, for a label.
  WaitSlot* Begin(Primitive primitive, const void* lock) { return Begin(primitive, lock, lock); }
  WaitSlot* Begin(Primitive primitive, const void* lock, const void* object);
  // It has ended. `waited` false: it came to nothing (an error), and is not recorded. `late`: LeaveLate is called when the lock
  // is unlocked again.
  void End(WaitSlot* slot, bool waited, bool late = false);
  // It was left by a jump or by cancellation.
  void Abandon(WaitSlot* slot);

  // The same at a condition variable. `was_woken` false: it timed out.
  WaitSlot* BeginAtCondition(Primitive primitive, const void* condition, const void* mutex);
  void EndAtCondition(WaitSlot* slot, bool waited, bool was_woken);
  bool MayWaitAt(const void* condition) const { return conditions_.MayHold(condition); }
  // `condition` is about to be signalled: up to `most` of those who wait there will want their mutex.
  void Signal(const void* condition, uint32_t most);

  // Whether somebody may wait for `lock`: a wait for it, or threads that were woken and want it back.
  PROF_ALWAYS_INLINE bool MayWaitFor(const void* lock) const { return locks_.MayHold(lock); }
  // The lock of a wait that ended `late` was unlocked.
  PROF_ALWAYS_INLINE void LeaveLate() {
    if (t_waits.late != nullptr) LeaveOthers();
  }
  // `lock` is about to be unlocked, which ends somebody's wait: what that is charged with.
  UnlockCharge Unlock(const void* lock);
  // It was unlocked; there is a charge. The lock may be gone already. `same_stack`: a wait that begins in the same call.
  void RecordUnlock(Primitive primitive, const void* lock, const UnlockCharge& charge,
                    const WaitSlot* same_stack = nullptr);

  // For tests: how many wait for `lock` and were drawn, or were woken and want it back.
  uint32_t CountWaiters(const void* lock) const;

  // This thread ends: what it has not added yet is added, its records are given back. Waits that come still give theirs back
  // themselves.
  void EndThread();

 private:
  StackId StackHere(Primitive primitive);
  TextId LabelOf(const void* object);
  WaiterRecord* RecordOf(WaitSlot* slot);
  void AddEnded(WaiterRecord* record);
  void GiveRecord(WaitSlot* slot);
  void TakeBackAbandoned(uintptr_t here);
  void LeaveCondition(WaitSlot* slot, bool was_woken);
  void LeaveOthers();
  uint64_t* Random();
  bool Draw(uint64_t fraction);

  Settings settings_{};
  std::atomic<uint64_t> block_rate_{0};
  std::atomic<uint64_t> mutex_fraction_{0};
  ModuleId own_module_ = ModuleId::kNone;
  StackBounds main_stack_;   // where locks are that many threads wait for
  ScratchPool deep_frames_;  // for depths that a stack buffer is too small for
  LockWaits locks_;
  ConditionWaits conditions_;
};

extern constinit Contention g_contention;

}  // namespace profagent
