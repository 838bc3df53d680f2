// What every hook of an allocation does when it is, or may be, a sample.
//
// Context: `hook`. For malloc_hooks.cc (names that we define) and foreign_hooks.cc (slots that we redirect).
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/heap_sampler.h"
#include "agent/interpose/slot_patch.h"

namespace profagent {

// Around a call of the real allocator that is a sample: what it asks for by public names is not one again.
// An operator new that has no memory leaves by an exception (ours to forward: foreign_hooks.cc), and no destructor runs, for the
// agent is built without exceptions. The function that holds this names the routine that the unwinder calls for its frame.
class InAllocator {
 public:
  PROF_ALWAYS_INLINE InAllocator() : before_(t_state.in_allocator) {
    asm volatile(
        ".cfi_personality 0x1b, profagent_leaves_allocator");  // 0x1b: 4 bytes, relative to their place
    t_state.in_allocator = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  }
  ~InAllocator() { t_state.in_allocator = before_; }
  InAllocator(const InAllocator&) = delete;
  InAllocator& operator=(const InAllocator&) = delete;

 private:
  uintptr_t before_;
};

// The way of an allocation that the thread's gap does not cover. Not `counted`: the gap goes on, but nobody is told.
template <class Allocate>
PROF_ALWAYS_INLINE void* AllocateSlowly(size_t size, bool counted, Allocate allocate) {
  LookForNewObjects();
  if (!g_heap_sampler.Draws(size) || !counted) return allocate();
  void* block = nullptr;
  {
    InAllocator guard;
    block = allocate();
  }
  if (block != nullptr) g_heap_sampler.Record(block, size);
  return block;
}

// `real_realloc(block, size)` for a block that may be sampled, or a size that the gap does not cover. That the old block was a
// sample does not make the new one more likely to be.
template <class Realloc>
PROF_ALWAYS_INLINE void* ReallocateSlowly(void* block, size_t size, bool counted, Realloc real_realloc) {
  HeapSiteRecord* site = g_heap_sampler.live().Take(block);
  auto reallocate = [&] {
    void* moved = real_realloc(block, size);
    // libc's realloc to nothing is a free, and says nullptr too.
    bool given_back = moved != nullptr || size == 0;
    if (site != nullptr && given_back) g_heap_sampler.CountFreed(site);
    if (site != nullptr && !given_back) g_heap_sampler.PutBack(block, site);
    return moved;
  };
  return HeapSampler::Covers(size) ? reallocate() : AllocateSlowly(size, counted, reallocate);
}

PROF_ALWAYS_INLINE bool MayBeSampled(void* block) { return g_heap_sampler.live().MayHold(block); }

// Before the real free of a block that may be sampled.
PROF_ALWAYS_INLINE void ForgetBlock(void* block) {
  if (HeapSiteRecord* site = g_heap_sampler.live().Take(block)) g_heap_sampler.CountFreed(site);
}

}  // namespace profagent
