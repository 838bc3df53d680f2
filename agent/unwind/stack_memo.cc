#include "agent/unwind/stack_memo.h"

namespace profagent {
namespace {

// Whether the stack from `here` on is the one that the entry remembers.
PROF_ALWAYS_INLINE bool IsStill(const StackMemoEntry& entry, const FramePosition& here) {
  if (entry.compares_fp && entry.steps[0].fp != here.fp) return false;
  for (uint32_t i = 1; i < entry.count; ++i) {
    const MemoStep& step = entry.steps[i];
    uintptr_t sp = here.sp + uintptr_t{8} * step.sp;
    if (LoadWord(sp - 8) != step.pc) return false;
    if (step.fp_at != 0 && LoadWord(sp - uintptr_t{8} * step.fp_at) != step.fp) return false;
  }
  return true;
}

PROF_ALWAYS_INLINE uint64_t Mix(uint64_t value) {
  value *= 0x9e3779b97f4a7c15;
  return value ^ value >> 32;
}

}  // namespace

bool StackMemo::Recall(StackMemoPool* pool, const FramePosition& here, uintptr_t stack, uint32_t generation) {
  if (stack == 0) return false;
  tag_ = Mix(Mix(here.sp ^ stack << 20) + hint_) | 1;  // never 0
  StackMemoPool::Set& set = pool->SetOf(tag_ >> 8);
  uint32_t free_way = StackMemoPool::kWays;
  for (uint32_t way = 0; way < StackMemoPool::kWays; ++way) {
    uint64_t tag = set.tags[way].load(std::memory_order_relaxed);
    if (tag == 0 && free_way == StackMemoPool::kWays) free_way = way;
    if (tag != tag_) continue;
    StackMemoEntry& entry = pool->EntryOf(set, way);
    if (entry.taken.exchange(true, std::memory_order_acquire)) continue;
    if (entry.count != 0 && entry.sp == here.sp && entry.stack == stack && entry.hint == hint_ &&
        entry.generation == generation && IsStill(entry, here)) {
      known_ = entry.known;
    }
    entry.taken.store(false, std::memory_order_release);
    if (known_ != 0) return true;
  }
  // Most stacks of some programs never come again.
  if (set.asked.exchange(tag_, std::memory_order_relaxed) != tag_) return false;
  if (free_way == StackMemoPool::kWays) {
    free_way = set.next.load(std::memory_order_relaxed) % StackMemoPool::kWays;
    set.next.store(free_way + 1, std::memory_order_relaxed);
  }
  StackMemoEntry& entry = pool->EntryOf(set, free_way);
  if (entry.taken.exchange(true, std::memory_order_acquire)) return false;
  place_ = &set.tags[free_way];
  entry_ = &entry;
  entry.generation = generation;
  entry.count = 0;
  entry.stack = stack;
  entry.sp = here.sp;
  entry.hint = hint_;
  return false;
}

void StackMemo::Add(const FramePosition& state, uint8_t fp_saved, bool uses_fp) {
  if (entry_ == nullptr) return;
  uintptr_t words = (state.sp - entry_->sp) / 8;
  if (entry_->count == StackMemoEntry::kMaxSteps || state.sp % 8 != 0 || words > UINT32_MAX) {
    Release(0);
    return;
  }
  entry_->steps[entry_->count++] = {state.pc, state.fp, static_cast<uint32_t>(words), 0, fp_saved, uses_fp};
}

void StackMemo::Complete() {
  if (entry_ == nullptr) return;
  const uint32_t count = entry_->count;
  if (count == 0)
    return Release(0);  // wiped: a handler forked in the middle of this walk, and we are the child
  const MemoStep& outermost = entry_->steps[count - 1];
  if (entry_->sp + uintptr_t{8} * outermost.sp > entry_->stack) return Release(0);
  bool matters = false;  // what fp is at step i + 1
  for (uint32_t i = count - 1; i-- > 0;) {
    const MemoStep& step = entry_->steps[i];
    MemoStep& next = entry_->steps[i + 1];
    bool saved = step.fp_saved != Recipe::kNotSaved;
    if (saved && matters) {
      if (next.sp < step.fp_saved + 1u) return Release(0);  // below where the walk began
      next.fp_at = step.fp_saved + 1;
    }
    matters = step.uses_fp || (!saved && matters);
  }
  entry_->compares_fp = matters;
  complete_ = true;
}

void StackMemo::Release(uint64_t known) {
  if (entry_ == nullptr) return;
  entry_->known = known;
  if (known == 0) entry_->count = 0;
  place_->store(known != 0 ? tag_ : 0, std::memory_order_relaxed);
  entry_->taken.store(false, std::memory_order_release);
  entry_ = nullptr;
}

}  // namespace profagent
