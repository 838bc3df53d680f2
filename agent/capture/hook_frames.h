// Where a hook collects the frames of one stack: on its own stack, or, for depths that would take too much of it, in a buffer
// of a pool.
//
// Context: `hook`. One object a walk.
// When all buffers of the pool are taken: the stack's own serves, and the walk is cut there.
#pragma once

#include <algorithm>
#include <span>

#include "agent/base/signal_safe.h"
#include "agent/capture/scratch_pool.h"
#include "agent/ledger/frame.h"

namespace profagent {

class HookFrames {
 public:
  // Frames of the agent itself at the leaf's end: the hook, and what stands between it and the walk.
  static constexpr uint32_t kOwn = 4;

  // `pool` was started for `wanted` frames, if these are more than fit here.
  PROF_ALWAYS_INLINE HookFrames(ScratchPool* pool, uint32_t wanted) : pool_(pool) {
    buffer_ = {reinterpret_cast<Frame*>(on_stack_), kOnStack};
    if (wanted > kOnStack) deep_ = pool->Take();
    if (!deep_.empty()) buffer_ = deep_;
    buffer_ = buffer_.first(std::min<size_t>(buffer_.size(), wanted));
  }
  PROF_ALWAYS_INLINE ~HookFrames() {
    if (!deep_.empty()) pool_->Give(deep_);
  }
  HookFrames(const HookFrames&) = delete;
  HookFrames& operator=(const HookFrames&) = delete;

  std::span<Frame> buffer() const { return buffer_; }

 private:
  static constexpr uint32_t kOnStack = kDefaultMaxDepth + kOwn + kHiddenLeafRoom;

  ScratchPool* pool_;
  std::span<Frame> deep_;
  alignas(Frame) char on_stack_[kOnStack * sizeof(Frame)];  // not Frames: they would be cleared, each time
  std::span<Frame> buffer_;
};

}  // namespace profagent
