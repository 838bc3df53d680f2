// Who waits at which condition variable with which mutex: so that the way from the one to the other is seen.
//
// Context:  `hook`, `signal`. No lock, no waiting.
// Why:      a thread that is woken from pthread_cond_wait wants its mutex back, and libc waits for it where no hook can be. It
//           is contention of the mutex like any other, and the usual one: who signals holds the mutex. So the signal tells:
//           from then on one waiter (a broadcast: all of them) waits for the mutex, and is charged to whoever unlocks it
//           (LockWaits, as a group).
// Who:      which of the waiters libc wakes is not known, and does not matter: the first that returns takes one move away.
//           A waiter that timed out or was cancelled was not woken by the signal; it takes a move only where more would be left
//           than there are waiters.
// Mutexes:  libc lets threads wait at one condition with several of them (POSIX does not). Each has an entry of its own, so that
//           who returns takes a move away from the group of its own mutex. Whose waiter one signal wakes is a guess then.
// When full: the wait's end at the mutex is charged to nobody.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/capture/address_filter.h"
#include "agent/capture/lock_key.h"
#include "agent/capture/wide_word_x86_64.h"

namespace profagent {

class ConditionWaits {
 public:
  // False: nobody waits, a signal moves nobody.
  PROF_ALWAYS_INLINE bool MayHold(const void* condition) const { return filter_.MayHold(condition); }

  // The entry, plus one; 0: full.
  uint32_t Arrive(const void* condition, const void* mutex);
  // True: a move is taken, the waiter was in the mutex's group.
  bool Leave(const void* condition, uint32_t entry_plus_one, bool was_woken);

  struct Waiting {
    const void* mutex;
    uint32_t count;  // that no signal moved yet
  };
  Waiting Look(const void* condition) const;
  // Up to `most` waiters go to `mutex`. How many that were.
  uint32_t Move(const void* condition, const void* mutex, uint32_t most);

  void RestartAfterFork();

  static constexpr uint32_t kWays = 4;  // entries that one condition can have

 private:
  static constexpr uint32_t kCountBits = 15;
  static constexpr uint64_t kMostWaiters = (uint64_t{1} << kCountBits) - 1;

  struct Entry {
    WideWord word;  // low: tag | waiters; high: mutex | moved
  };
  struct State {
    uint64_t tag, waiters, mutex, moved;
  };
  PROF_ALWAYS_INLINE static State Unpack(WidePair packed);
  PROF_ALWAYS_INLINE static WidePair Pack(const State& state);

  Entry entries_[kWays << LockKey::kLog2Buckets] = {};
  AddressFilter filter_;
};

}  // namespace profagent
