#include "agent/capture/condition_waits.h"

#include <initializer_list>

namespace profagent {

// Mutexes are aligned to 4 like any lock.
ConditionWaits::State ConditionWaits::Unpack(WidePair packed) {
  return {packed.low >> kCountBits, packed.low & kMostWaiters, packed.high >> kCountBits << 2,
          packed.high & kMostWaiters};
}

WidePair ConditionWaits::Pack(const State& state) {
  return {state.tag << kCountBits | state.waiters, state.mutex >> 2 << kCountBits | state.moved};
}

uint32_t ConditionWaits::Arrive(const void* condition, const void* mutex) {
  filter_.Raise(condition);
  LockKey key = LockKey::Of(condition);
  uint32_t first = key.bucket * kWays;
  // In the entry that holds it with that mutex, or else in a free one; again where others came in the same instant.
  for (uint32_t attempt = 0; attempt < 2 * kWays; ++attempt) {
    for (bool open : {false, true}) {
      for (uint32_t index = first; index < first + kWays; ++index) {
        WideWord& word = entries_[index].word;
        WidePair old = word.Load();
        State state = Unpack(old);
        auto held = reinterpret_cast<uintptr_t>(mutex);
        bool is_its = state.waiters != 0 && state.tag == key.tag && state.mutex == held;
        if (open ? state.waiters != 0 : !is_its) continue;
        if (open) state = {key.tag, 0, held, 0};
        if (state.waiters == kMostWaiters) continue;
        ++state.waiters;
        if (word.Exchange(old, Pack(state))) return index + 1;
      }
    }
  }
  filter_.Lower(condition);
  return 0;
}

bool ConditionWaits::Leave(const void* condition, uint32_t entry_plus_one, bool was_woken) {
  if (entry_plus_one == 0) return false;
  WideWord& word = entries_[entry_plus_one - 1].word;
  LockKey key = LockKey::Of(condition);
  for (;;) {
    WidePair old = word.Load();
    State state = Unpack(old);
    if (state.waiters == 0 || state.tag != key.tag) return false;  // a fork emptied it
    bool takes = state.moved != 0 && (was_woken || state.moved == state.waiters);
    --state.waiters;
    if (takes) --state.moved;
    if (!word.Exchange(old, Pack(state))) continue;
    filter_.Lower(condition);
    return takes;
  }
}

ConditionWaits::Waiting ConditionWaits::Look(const void* condition) const {
  LockKey key = LockKey::Of(condition);
  for (uint32_t way = 0; way < kWays; ++way) {
    State state = Unpack(entries_[key.bucket * kWays + way].word.Load());
    if (state.waiters == 0 || state.tag != key.tag || state.moved >= state.waiters) continue;
    return {reinterpret_cast<const void*>(state.mutex), static_cast<uint32_t>(state.waiters - state.moved)};
  }
  return {nullptr, 0};
}

uint32_t ConditionWaits::Move(const void* condition, const void* mutex, uint32_t most) {
  LockKey key = LockKey::Of(condition);
  for (uint32_t way = 0; way < kWays; ++way) {
    WideWord& word = entries_[key.bucket * kWays + way].word;
    for (;;) {
      WidePair old = word.Load();
      State state = Unpack(old);
      if (state.waiters == 0 || state.tag != key.tag || state.moved >= state.waiters ||
          state.mutex != reinterpret_cast<uintptr_t>(mutex)) {
        break;
      }
      uint64_t left = state.waiters - state.moved;
      uint64_t count = left < most ? left : most;
      state.moved += count;
      if (word.Exchange(old, Pack(state))) return static_cast<uint32_t>(count);
    }
  }
  return 0;
}

void ConditionWaits::RestartAfterFork() {
  for (Entry& entry : entries_) entry.word.Clear();
  filter_.Reset();
}

}  // namespace profagent
