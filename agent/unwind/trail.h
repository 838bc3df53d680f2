// What the last walk of a stack met, so that the next one only sees that it is still there.
//
// Context: `signal`, `hook`.
// Why:     two samples of a thread share most of their outer frames, and what such a frame costs is cache misses: one
//          for the stack, one or two (with their TLB entries) for the recipe. And they wait for each other, since
//          each frame says where the next one is. The trail holds pc, rsp and rbp of each frame in a row: the
//          addresses to read are known in advance, so the misses overlap, and the recipes are not looked at.
// Exact:   a frame is taken over only where pc, rsp and rbp are those of the trail; the recipe being a function of pc,
//          the caller's frame is then where the trail says. Its return address and rbp are read from the stack all the
//          same and compared. Whatever was written since, the result is that of a walk without a trail. A trail of
//          another generation (dlclose) is not used.
// Sharing: trails are found by the stack's upper bound. A walk that finds its trail taken (a signal inside a hook's
//          walk) or that knows no bound does without.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/unwind/recipe.h"
#include "agent/unwind/registers.h"

namespace profagent {

class StackMemo;

// A caller's frame as the fast walk sees it before it steps on.
struct TrailEntry {
  uintptr_t sp = 0;
  uintptr_t fp = 0;
  uint64_t pc : 55 = 0;
  uint64_t uses_fp : 1 = 0;  // the CFA is at a distance from fp
  // Field of the recipe: where rbp stands, below the next entry's sp; or kNotOnTrail.
  uint64_t fp_saved : 8 = 0;
  Frame frame;

  // The step to the caller needs more than the next entry's sp: it is made without the trail.
  static constexpr uint8_t kNotOnTrail = 0xff;
};
static_assert(sizeof(TrailEntry) == 32);

struct Trail {
  static constexpr uint32_t kCapacity = 128;  // the default depth limit

  std::atomic<bool> taken{false};  // acquire/release: everything below
  uint32_t generation = 0;         // of the recipe cache
  uintptr_t stack = 0;
  uint32_t count = 0;
  TrailEntry entries[kCapacity] = {};  // outermost frame first, so that what stays keeps its place
  TrailEntry fresh[kCapacity] = {};    // of the walk under way, leaf first
};

class TrailPool {
 public:
  static constexpr uint32_t kCount = 32;

  // nullptr: taken.
  PROF_ALWAYS_INLINE Trail* Take(uintptr_t stack, uint32_t generation) {
    Trail* trail = &trails_[(stack * 0x9e3779b97f4a7c15 >> 32) % kCount];
    if (trail->taken.load(std::memory_order_relaxed) ||
        trail->taken.exchange(true, std::memory_order_acquire)) {
      return nullptr;
    }
    if (trail->stack != stack || trail->generation != generation) {
      trail->stack = stack;
      trail->generation = generation;
      trail->count = 0;
    }
    return trail;
  }
  static PROF_ALWAYS_INLINE void Return(Trail* trail) {
    trail->taken.store(false, std::memory_order_release);
  }

 private:
  Trail trails_[kCount];
};

// The recording side of one walk.
class TrailWriter {
 public:
  PROF_ALWAYS_INLINE TrailWriter(TrailPool* pool, uintptr_t stack, uint32_t generation)
      : trail_(stack != 0 ? pool->Take(stack, generation) : nullptr), recording_(trail_ != nullptr) {
    if (trail_ != nullptr) ahead_ = trail_->count;
  }
  PROF_ALWAYS_INLINE ~TrailWriter() {
    if (trail_ == nullptr) return;
    Finish();
    TrailPool::Return(trail_);
  }
  TrailWriter(const TrailWriter&) = delete;
  TrailWriter& operator=(const TrailWriter&) = delete;

  PROF_ALWAYS_INLINE void Add(const TrailEntry& entry) {
    if (!recording_) return;
    if (fresh_count_ == Trail::kCapacity) {
      overflowed_ = true;
    } else {
      trail_->fresh[fresh_count_++] = entry;
    }
  }

  // The entry that stands for this very state, or nullptr. Passes over those nearer to the leaf for good. From a
  // meeting on the rest of the trail counts as part of this walk, until Part.
  PROF_ALWAYS_INLINE const TrailEntry* Meet(uintptr_t pc, uintptr_t sp, uintptr_t fp) {
    if (!recording_) return nullptr;
    while (ahead_ > 0 && trail_->entries[ahead_ - 1].sp < sp) --ahead_;
    if (ahead_ == 0) return nullptr;
    const TrailEntry* entry = &trail_->entries[ahead_ - 1];
    if (entry->sp != sp || entry->pc != pc || entry->fp != fp) return nullptr;
    kept_ = ahead_;
    return entry;
  }
  // Behind it the trail knows nothing.
  PROF_ALWAYS_INLINE const TrailEntry* outermost() const { return trail_->entries; }

  // The walk met the trail at `met`, followed it, and parts from it behind `last`, which is the last entry
  // that is still right (met + 1: none was). The right ones are recorded anew.
  PROF_SIGNAL_SAFE void Part(const TrailEntry* met, const TrailEntry* last);
  // The walk came to the outermost entry: what it meets from there on is not recorded again.
  PROF_SIGNAL_SAFE void Finish();

  // The walk is over, at `outermost`, after `steps` of which each should be on the trail: the memo gets them all.
  PROF_SIGNAL_SAFE void GiveTo(StackMemo* memo, uint32_t steps, const FramePosition& outermost);

 private:
  Trail* trail_;
  bool recording_;
  bool whole_ = false;  // Finish has written it
  uint32_t ahead_ = 0;  // entries[0 .. ahead_) are not passed yet
  uint32_t kept_ = 0;   // entries[0 .. kept_) continue what is fresh
  uint32_t fresh_count_ = 0;
  bool overflowed_ = false;
};

}  // namespace profagent
