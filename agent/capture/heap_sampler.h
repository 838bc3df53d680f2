// Which allocations are sampled, and what becomes of a sample.
//
// Context:   Start in `bootstrap`; everything else in `hook`, which includes the application's own signal handlers (they
//            may allocate while their thread is in here: nothing here waits or is half done in a way that matters).
// Sampling:  Go's. A Poisson process over the bytes that a thread allocates: the gap to the next sample is exponential
//            with mean MEMPROFILERATE. The block that crosses it is recorded, whole, once; so a block of s bytes is drawn
//            with probability 1 - e^(-s/rate), which the encoder undoes. Each thread has its own gap: memoryless, so that
//            threads that come and go do not matter. Rate 1 records every block.
// Cost:      what is not sampled costs the comparison and the subtraction of Covers; a free costs LiveAllocations::MayHold.
// realloc:   is a free and an allocation of the new size, drawn anew like any other, also when the block grew in place: that
//            keeps both alloc_* (what was asked for) and inuse_* (what is live) unbiased.
// Order:     a block is recorded after the real allocation, before anybody knows it, and forgotten before the real free,
//            after which its address may be anybody's.
#pragma once

#include <cstdint>
#include <span>

#include "agent/base/thread_state.h"
#include "agent/capture/scratch_pool.h"
#include "agent/ledger/ledger.h"
#include "agent/ledger/live_allocations.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

class HeapSampler {
 public:
  struct Settings {
    Ledger* ledger;
    Unwinder* unwinder;
    uint64_t rate;  // bytes; 0: off
    uint32_t max_depth;
  };

  // With rate 0 only stops the threads from asking again and again.
  void Start(const Settings& settings);
  // What was sampled stays; frees are still taken out.
  void Stop() { running_.store(false, std::memory_order_release); }
  bool running() const { return running_.load(std::memory_order_acquire); }

  // Nothing is drawn, and no thread makes a system call for the sake of drawing, until it is lifted.
  void Suspend(bool suspended) { suspended_.store(suspended, std::memory_order_release); }

  // In a forked child, whose ledger is new (or closed: `record` false).
  void RestartAfterFork(bool record);

  // The hot path: true, and `size` bytes of this thread's gap are used up. False: ask Draws.
  PROF_ALWAYS_INLINE static bool Covers(size_t size) {
    if (size >= t_state.heap_countdown) [[unlikely]]
      return false;
    t_state.heap_countdown -= size;
    return true;
  }
  // Whether the allocation of `size` bytes that Covers did not cover is a sample.
  bool Draws(size_t size);

  // A sampled block that the real allocator has just given, with the stack of the hook's caller.
  void Record(void* block, size_t size);

  LiveAllocations& live() { return live_; }
  // Before the real free; `site` is what live().Take said.
  void CountFreed(HeapSiteRecord* site);
  // The real realloc failed: `block` is what it was.
  void PutBack(void* block, HeapSiteRecord* site);

 private:
  uint64_t DrawGap();
  bool HasMany();
  StackId Intern(std::span<Frame> frames, WalkEnd* end);

  Settings settings_{};
  std::atomic<bool> running_{false};
  std::atomic<bool> decided_{false};  // Start was called
  std::atomic<bool> suspended_{false};
  std::atomic<uint32_t> samples_{0};  // counted as long as it is few
  ModuleId own_module_ = ModuleId::kNone;
  ScratchPool deep_frames_;  // for depths that a stack buffer is too small for
  LiveAllocations live_;
};

extern constinit HeapSampler g_heap_sampler;

}  // namespace profagent
