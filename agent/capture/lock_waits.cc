#include "agent/capture/lock_waits.h"

#include "agent/capture/monotonic_clock.h"

namespace profagent {

// A bijection of the address's 45 bits, so that tag and bucket together are the address: no lock is taken for another.
LockWaits::Key LockWaits::KeyOf(const void* lock) {
  constexpr uint64_t kMask = (uint64_t{1} << kKeyBits) - 1;
  uint64_t key = reinterpret_cast<uintptr_t>(lock) >> 2 & kMask;
  key = (key ^ key >> 21) * 0x9e3779b97f4a7c15 & kMask;
  key ^= key >> 23;
  return {key >> kLog2Buckets, static_cast<uint32_t>(key & ((1 << kLog2Buckets) - 1)) * kWays};
}

LockWaits::State LockWaits::Unpack(uint64_t packed) {
  return {packed >> (kWaiterBits + kRoundBits), packed >> kRoundBits & kMostWaiters, packed & kRoundMask};
}

uint64_t LockWaits::Pack(const State& state) {
  return state.tag << (kWaiterBits + kRoundBits) | state.waiters << kRoundBits | (state.round & kRoundMask);
}

bool LockWaits::Holds(const Key& key, uint64_t packed) {
  State state = Unpack(packed);
  return state.tag == key.tag && state.waiters != 0;
}

void LockWaits::RaiseFilter(const void* lock) {
  std::atomic<uint16_t>& count = filter_[FilterClass(lock)];
  uint16_t old = count.load(std::memory_order_relaxed);
  // seq_cst: raised before the waiter looks at the lock again.
  while (old != kStuck && !count.compare_exchange_weak(old, static_cast<uint16_t>(old + 1))) {
  }
}

void LockWaits::LowerFilter(const void* lock) {
  std::atomic<uint16_t>& count = filter_[FilterClass(lock)];
  uint16_t old = count.load(std::memory_order_relaxed);
  while (old != kStuck && old != 0 &&
         !count.compare_exchange_weak(old, static_cast<uint16_t>(old - 1), std::memory_order_relaxed)) {
  }
}

// One more in an entry that holds the lock already.
bool LockWaits::TryJoin(uint32_t index, const Key& key, uint64_t since, Arrival* arrival) {
  Entry& entry = entries_[index];
  for (;;) {
    WidePair old = entry.word.Load();
    if (!Holds(key, old.low)) return false;
    State state = Unpack(old.low);
    if (state.waiters == kMostWaiters) return false;
    // Who was stopped on its way here may have begun before the last unlock, which is over and was charged to the others.
    uint64_t released = entry.released[state.round % 2].load(std::memory_order_relaxed);
    uint64_t from = since > released ? since : released;
    if (entry.word.Exchange(old, {Pack({state.tag, state.waiters + 1, state.round}), old.high + from})) {
      *arrival = {index + 1, static_cast<uint32_t>(state.round), from};
      return true;
    }
  }
}

// The first in an entry that nobody waits in.
bool LockWaits::TryOpen(uint32_t index, const Key& key, uint64_t since, Arrival* arrival) {
  Entry& entry = entries_[index];
  WidePair old = entry.word.Load();
  State state = Unpack(old.low);
  if (state.waiters != 0) return false;
  State opened{key.tag, 1, (state.round + 1) & kRoundMask};
  if (!entry.word.Exchange(old, {Pack(opened), since})) return false;
  *arrival = {index + 1, static_cast<uint32_t>(opened.round), since};
  return true;
}

LockWaits::Arrival LockWaits::Arrive(const void* lock, Nanos since) {
  RaiseFilter(lock);
  Key key = KeyOf(lock);
  Arrival arrival{};
  // More than once, because others arrive in the same instant; not for ever, because the bucket may be full.
  for (uint32_t round = 0; round < 2 * kWays; ++round) {
    for (uint32_t way = 0; way < kWays; ++way) {
      if (TryJoin(key.first + way, key, since.value, &arrival)) return arrival;
    }
    for (uint32_t way = 0; way < kWays; ++way) {
      if (TryOpen(key.first + way, key, since.value, &arrival)) return arrival;
    }
  }
  LowerFilter(lock);
  return {};
}

void LockWaits::Leave(const void* lock, const Arrival& arrival) {
  if (arrival.entry_plus_one == 0) return;
  Entry& entry = entries_[arrival.entry_plus_one - 1];
  Key key = KeyOf(lock);
  for (;;) {
    WidePair old = entry.word.Load();
    if (!Holds(key, old.low)) return;  // a fork emptied it
    State state = Unpack(old.low);
    uint64_t from = state.round == arrival.round
                        ? arrival.since
                        : entry.released[state.round % 2].load(std::memory_order_relaxed);
    if (entry.word.Exchange(old, {Pack({state.tag, state.waiters - 1, state.round}), old.high - from})) break;
  }
  LowerFilter(lock);
}

Nanos LockWaits::Unlock(const void* lock) {
  Key key = KeyOf(lock);
  uint64_t charge = 0;
  for (uint32_t way = 0; way < kWays; ++way) {
    Entry& entry = entries_[key.first + way];
    for (;;) {
      WidePair old = entry.word.Load();
      if (!Holds(key, old.low)) break;
      State state = Unpack(old.low);
      uint64_t now = MonotonicNow().value;
      uint64_t next = state.round + 1;
      // Before the exchange that begins the round. Only the holder of the lock writes it, and there is one of those.
      entry.released[next % 2].store(now, std::memory_order_relaxed);
      if (!entry.word.Exchange(old, {Pack({state.tag, state.waiters, next}), state.waiters * now})) continue;
      auto waited = static_cast<int64_t>(state.waiters * now - old.high);
      if (waited > 0) charge += static_cast<uint64_t>(waited);
      break;
    }
  }
  return Nanos{charge};
}

uint32_t LockWaits::CountWaiters(const void* lock) const {
  Key key = KeyOf(lock);
  uint64_t count = 0;
  for (uint32_t way = 0; way < kWays; ++way) {
    uint64_t packed = entries_[key.first + way].word.low.load(std::memory_order_relaxed);
    if (Holds(key, packed)) count += Unpack(packed).waiters;
  }
  return static_cast<uint32_t>(count);
}

void LockWaits::RestartAfterFork() {
  for (Entry& entry : entries_) {
    // Not written where nothing was: no page for nothing.
    if (entry.word.low.load(std::memory_order_relaxed) == 0) continue;
    entry.word.low.store(0, std::memory_order_relaxed);
    entry.word.high.store(0, std::memory_order_relaxed);
  }
  for (std::atomic<uint16_t>& count : filter_) {
    if (count.load(std::memory_order_relaxed) != 0) count.store(0, std::memory_order_relaxed);
  }
}

}  // namespace profagent
