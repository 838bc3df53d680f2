#include "agent/unwind/trail.h"

namespace profagent {

void TrailWriter::Part(const TrailEntry* met, const TrailEntry* last) {
  for (const TrailEntry* at = met; at >= last; --at) Add(*at);
  ahead_ = static_cast<uint32_t>(last - trail_->entries);
  kept_ = 0;
}

void TrailWriter::Finish() {
  if (trail_ == nullptr) return;
  // Deeper than the trail can hold (recursion): the old entries stay. They are still right in themselves, and
  // compared before they are believed.
  if (!overflowed_ && kept_ + fresh_count_ <= Trail::kCapacity) {
    TrailEntry* to = trail_->entries + kept_;
    for (uint32_t i = fresh_count_; i > 0; --i) *to++ = trail_->fresh[i - 1];
    trail_->count = kept_ + fresh_count_;
  }
  TrailPool::Return(trail_);
  trail_ = nullptr;
}

}  // namespace profagent
