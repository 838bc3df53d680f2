#include "agent/capture/lock_waits.h"

#include "agent/capture/monotonic_clock.h"

namespace profagent {

LockWaits::State LockWaits::Unpack(uint64_t packed) {
  return {packed >> (kWaiterBits + kRoundBits), packed >> kRoundBits & kMostWaiters, packed & kRoundMask};
}

uint64_t LockWaits::Pack(const State& state) {
  return state.tag << (kWaiterBits + kRoundBits) | state.waiters << kRoundBits | (state.round & kRoundMask);
}

bool LockWaits::Holds(const LockKey& key, uint64_t packed) {
  State state = Unpack(packed);
  return state.tag == key.tag && state.waiters != 0;
}

// More in an entry that holds the lock already.
bool LockWaits::TryJoin(Entry& entry, const LockKey& key, uint32_t count, uint64_t since, Arrival* arrival) {
  for (;;) {
    WidePair old = entry.word.Load();
    if (!Holds(key, old.low)) return false;
    State state = Unpack(old.low);
    if (state.waiters + count > kMostWaiters) return false;
    // Who was stopped on its way here may have begun before the last unlock, which is over and was charged to the others.
    uint64_t released = entry.released[state.round % 2].load(std::memory_order_relaxed);
    uint64_t from = since > released ? since : released;
    State joined{state.tag, state.waiters + count, state.round};
    if (entry.word.Exchange(old, {Pack(joined), old.high + count * from})) {
      arrival->round = static_cast<uint32_t>(state.round);
      arrival->since = from;
      return true;
    }
  }
}

// The first in an entry that nobody waits in.
bool LockWaits::TryOpen(Entry& entry, const LockKey& key, uint32_t count, uint64_t since, Arrival* arrival) {
  WidePair old = entry.word.Load();
  State state = Unpack(old.low);
  if (state.waiters != 0) return false;
  State opened{key.tag, count, (state.round + 1) & kRoundMask};
  if (!entry.word.Exchange(old, {Pack(opened), count * since})) return false;
  arrival->round = static_cast<uint32_t>(opened.round);
  arrival->since = since;
  return true;
}

LockWaits::Arrival LockWaits::ArriveAs(const void* lock, uint32_t count, Nanos since) {
  LockKey key = LockKey::Of(lock);
  uint32_t first = key.bucket * kWays;
  Arrival arrival{};
  // More than once, because others arrive in the same instant; not for ever, because the bucket may be full.
  for (uint32_t attempt = 0; attempt < 2 * kWays; ++attempt) {
    for (uint32_t index = first; index < first + kWays; ++index) {
      if (!TryJoin(entries_[index], key, count, since.value, &arrival)) continue;
      arrival.entry_plus_one = index + 1;
      return arrival;
    }
    for (uint32_t index = first; index < first + kWays; ++index) {
      if (!TryOpen(entries_[index], key, count, since.value, &arrival)) continue;
      arrival.entry_plus_one = index + 1;
      return arrival;
    }
  }
  return arrival;
}

LockWaits::Arrival LockWaits::Arrive(const void* lock, Nanos since, bool keep) {
  if (!keep) {
    others_.Raise(lock);
    Arrival other{};
    other.is_other = true;
    return other;
  }
  kept_.Raise(lock);
  Arrival arrival = ArriveAs(lock, 1, since);
  if (arrival.entry_plus_one == 0) kept_.Lower(lock);
  return arrival;
}

void LockWaits::Leave(const void* lock, const Arrival& arrival) {
  if (arrival.is_other) return LeaveOthers(lock);
  if (arrival.entry_plus_one == 0) return;
  LockKey key = LockKey::Of(lock);
  Entry& entry = entries_[arrival.entry_plus_one - 1];
  for (;;) {
    WidePair old = entry.word.Load();
    if (!Holds(key, old.low)) return;  // a fork emptied it
    State state = Unpack(old.low);
    uint64_t from = state.round == arrival.round
                        ? arrival.since
                        : entry.released[state.round % 2].load(std::memory_order_relaxed);
    State left{state.tag, state.waiters - 1, state.round};
    if (entry.word.Exchange(old, {Pack(left), old.high - from})) break;
  }
  kept_.Lower(lock);
}

bool LockWaits::ArriveMany(const void* group, uint32_t count, Nanos since) {
  for (uint32_t i = 0; i < count; ++i) kept_.Raise(group);
  if (ArriveAs(group, count, since).entry_plus_one != 0) return true;
  for (uint32_t i = 0; i < count; ++i) kept_.Lower(group);
  return false;
}

void LockWaits::LeaveAny(const void* group) {
  LockKey key = LockKey::Of(group);
  for (uint32_t way = 0; way < kWays; ++way) {
    Entry& entry = entries_[key.bucket * kWays + way];
    for (;;) {
      WidePair old = entry.word.Load();
      if (!Holds(key, old.low)) break;
      State state = Unpack(old.low);
      // The average of what lies before now, which unlike the sum does not run over.
      uint64_t now = MonotonicNow().value;
      auto waited = static_cast<int64_t>(state.waiters * now - old.high);
      uint64_t from = now - static_cast<uint64_t>(waited / static_cast<int64_t>(state.waiters));
      State left{state.tag, state.waiters - 1, state.round};
      if (!entry.word.Exchange(old, {Pack(left), old.high - from})) continue;
      kept_.Lower(group);
      return;
    }
  }
}

LockWaits::Charge LockWaits::Unlock(const void* lock) {
  LockKey key = LockKey::Of(lock);
  Charge charge{};
  for (uint32_t way = 0; way < kWays; ++way) {
    Entry& entry = entries_[key.bucket * kWays + way];
    for (;;) {
      WidePair old = entry.word.Load();
      if (!Holds(key, old.low)) break;
      State state = Unpack(old.low);
      uint64_t now = MonotonicNow().value;
      uint64_t next = state.round + 1;
      // Before the exchange that begins the round. Only the holder of the lock writes it, and there is one of those.
      entry.released[next % 2].store(now, std::memory_order_relaxed);
      State charged{state.tag, state.waiters, next & kRoundMask};
      if (!entry.word.Exchange(old, {Pack(charged), state.waiters * now})) continue;
      auto waited = static_cast<int64_t>(state.waiters * now - old.high);
      if (waited > 0) charge.waited.value += static_cast<uint64_t>(waited);
      charge.waiters += static_cast<uint32_t>(state.waiters);
      break;
    }
  }
  return charge;
}

uint32_t LockWaits::CountWaiters(const void* lock) const {
  LockKey key = LockKey::Of(lock);
  uint64_t count = 0;
  for (uint32_t way = 0; way < kWays; ++way) {
    uint64_t packed = entries_[key.bucket * kWays + way].word.low.load(std::memory_order_relaxed);
    if (Holds(key, packed)) count += Unpack(packed).waiters;
  }
  return static_cast<uint32_t>(count);
}

void LockWaits::RestartAfterFork() {
  for (Entry& entry : entries_) entry.word.Clear();
  kept_.Reset();
  others_.Reset();
}

}  // namespace profagent
