// Who waits for which lock: what an unlock needs to know to be charged with the waiting that it ends.
//
// Context:    `hook`, `signal`. No lock, no waiting, no system call, no memory asked for; a thread that is stopped in here
//             stops nobody.
// Charge:     every waiter is charged to every unlock, for the time since its arrival or since the unlock before, whichever
//             was later (Go >= 1.22). Summed up over one lock, the charges are the waits, up to the release that ended each.
// How:        a sum instead of a list, so that an unlock costs the same however many wait. With W waiters, whose time counts
//             from R(i), the charge of an unlock at `now` is W * now - (R(1) + ... + R(W)); afterwards all R(i) are `now`.
//             So an entry holds W and the sum of R, and both change in one exchange. All sums are modulo 2^64, where their
//             differences are exact.
// Who leaves: takes its own R out of the sum: its arrival if nothing was unlocked since, else the time of the last unlock.
//             A round number in the entry, raised by each unlock, says which; `released` holds that time, in one of two
//             places by turns, so that an unlock that is under way does not disturb who leaves meanwhile (a time-out).
// Order:      an unlock reads the entry, then the clock, then exchanges; when somebody arrived in between it starts again. So
//             no arrival that it sees lies behind its `now`, and a thread that was stopped between the two charges nothing
//             negative.
// Entries:    found by the lock's address, four to a bucket, free again when nobody waits. Two threads may make two entries
//             of one lock at once: an unlock looks at all of them, each waiter remembers its own.
// Draws:      an arrival that is not kept is only counted, so that an unlock knows how many wait beside the kept ones. It is
//             counted apart from them: nine of ten locks that are waited for have nobody whom an unlock must look for, and
//             looking at a count that every waiter changes is a cache miss inside the critical section.
// Filter:     raised before a wait that is kept begins: where it is not, an unlock need not look. A waiter that an unlock cannot
//             see yet, because it looked at the filter before that was raised, is charged by none for that moment.
// Groups:     arrivals whose waiters are not known one by one (ArriveMany, LeaveAny): threads that were woken from a condition
//             variable and now want its mutex. Whoever leaves takes the average R. That is its own where a mutex was unlocked
//             since all of them came, or where they came at once; else a part of its wait is charged a round too late.
// When full:  Arrive says so, and the wait is charged to nobody.
// fork:       RestartAfterFork empties everything; a wait that a child's only thread inherits finds that it is not there.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/units.h"
#include "agent/capture/address_filter.h"
#include "agent/capture/lock_key.h"
#include "agent/capture/wide_word_x86_64.h"

namespace profagent {

class LockWaits {
 public:
  // What a waiter keeps until it leaves. Plain data, for thread-local storage.
  struct Arrival {
    bool is_other;            // not kept, only counted
    uint32_t entry_plus_one;  // 0: it is in none
    uint32_t round;
    uint64_t since;
  };

  // What an unlock is charged with.
  struct Charge {
    Nanos waited;      // 0: nobody waits
    uint32_t waiters;  // whose waits these are
  };

  // False: an unlock of `lock` has nobody to look for.
  PROF_ALWAYS_INLINE bool MayHold(const void* lock) const { return kept_.MayHold(lock); }

  // Somebody waits for `lock` since `since`. An arrival that is to be kept and has no entry: full.
  Arrival Arrive(const void* lock, Nanos since, bool keep);
  // It waits no longer: it has the lock, or gave up.
  void Leave(const void* lock, const Arrival& arrival);
  // The same for one that was not kept.
  void LeaveOthers(const void* lock) { others_.Lower(lock); }

  // `lock` is about to be unlocked: what that is charged with. A waiter that was already charged up to now is not charged
  // again.
  Charge Unlock(const void* lock);
  // How many wait for it that were not kept. Too high where other locks share its count.
  uint32_t CountOthers(const void* lock) const { return others_.Count(lock); }

  // `count` threads that nobody keeps arrivals of. False: full.
  bool ArriveMany(const void* group, uint32_t count, Nanos since);
  void LeaveAny(const void* group);

  // For tests: how many wait that were kept.
  uint32_t CountWaiters(const void* lock) const;

  void RestartAfterFork();

 private:
  static constexpr uint32_t kWays = 4;
  // Of WideWord::low: tag | waiters | round.
  static constexpr uint32_t kWaiterBits = 15;
  static constexpr uint32_t kRoundBits = 64 - LockKey::kTagBits - kWaiterBits;
  static constexpr uint64_t kMostWaiters = (uint64_t{1} << kWaiterBits) - 1;
  static constexpr uint64_t kRoundMask = (uint64_t{1} << kRoundBits) - 1;

  struct State {
    uint64_t tag;
    uint64_t waiters;
    uint64_t round;
  };
  struct alignas(32) Entry {
    WideWord word;                      // low: a State; high: the sum of R
    std::atomic<uint64_t> released[2];  // when round r began, at r % 2
  };

  PROF_ALWAYS_INLINE static State Unpack(uint64_t packed);
  PROF_ALWAYS_INLINE static uint64_t Pack(const State& state);
  PROF_ALWAYS_INLINE static bool Holds(const LockKey& key, uint64_t packed);
  static bool TryJoin(Entry& entry, const LockKey& key, uint32_t count, uint64_t since, Arrival* arrival);
  static bool TryOpen(Entry& entry, const LockKey& key, uint32_t count, uint64_t since, Arrival* arrival);
  Arrival ArriveAs(const void* lock, uint32_t count, Nanos since);

  Entry entries_[kWays << LockKey::kLog2Buckets] = {};
  AddressFilter kept_;
  AddressFilter others_;
};

}  // namespace profagent
