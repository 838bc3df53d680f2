#include "agent/unwind/trail.h"

#include "agent/unwind/stack_memo.h"

namespace profagent {

void TrailWriter::Part(const TrailEntry* met, const TrailEntry* last) {
  for (const TrailEntry* at = met; at >= last; --at) Add(*at);
  ahead_ = static_cast<uint32_t>(last - trail_->entries);
  kept_ = 0;
}

void TrailWriter::Finish() {
  if (!recording_) return;
  recording_ = false;
  // Deeper than the trail can hold (recursion): the old entries stay. They are still right in themselves, and
  // compared before they are believed.
  if (overflowed_ || kept_ + fresh_count_ > Trail::kCapacity) return;
  TrailEntry* to = trail_->entries + kept_;
  for (uint32_t i = fresh_count_; i > 0; --i) *to++ = trail_->fresh[i - 1];
  trail_->count = kept_ + fresh_count_;
  whole_ = true;
}

void TrailWriter::GiveTo(StackMemo* memo, uint32_t steps, const FramePosition& outermost) {
  Finish();
  if (!whole_ || trail_->count != steps) return;
  for (uint32_t i = steps; i-- > 0;) {
    const TrailEntry& entry = trail_->entries[i];
    if (entry.fp_saved == TrailEntry::kNotOnTrail) return;
    memo->Add({entry.pc, entry.sp, entry.fp}, entry.fp_saved, entry.uses_fp != 0);
  }
  memo->Add(outermost, Recipe::kNotSaved, false);
  memo->Complete();
}

}  // namespace profagent
