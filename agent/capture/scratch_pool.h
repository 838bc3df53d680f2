// Buffers that handlers, and hooks with deep stacks, collect frames in: 1 KiB and more, too much for a stack of 8 KiB.
//
// Context:   Start in `bootstrap`; Take and Give in `signal` and `hook`.
// Promises:  no lock, no memory asked for. A handler never waits, so 64 of them at once means 64 processors
//            inside the handler (or as many threads stopped in it); one more loses its sample
//            (Loss::kNoScratch).
// Order:     the lowest free buffer first, so that few of them ever touch memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "agent/base/raw_syscall.h"
#include "agent/base/signal_safe.h"
#include "agent/base/sparse_memory.h"
#include "agent/ledger/frame.h"

namespace profagent {

class ScratchPool {
 public:
  static constexpr uint32_t kBuffers = 64;

  bool Start(uint32_t frames_each) {
    if (memory_ != nullptr) return true;
    // Never given back: handlers run until the process is gone, after every destructor.
    long memory = MapSparse(size_t{kBuffers} * frames_each * sizeof(Frame));
    if (SyscallError(memory) != 0) return false;
    memory_ = reinterpret_cast<Frame*>(memory);
    frames_each_ = frames_each;
    return true;
  }

  // In a forked child: the parent's other threads may have held some.
  void Reset() { taken_.store(0, std::memory_order_relaxed); }

  // Empty: all are taken.
  PROF_ALWAYS_INLINE std::span<Frame> Take() {
    uint64_t taken = taken_.load(std::memory_order_relaxed);
    while (~taken != 0) {
      uint64_t bit = ~taken & (taken + 1);
      // acquire: what the last owner wrote is done
      if (taken_.compare_exchange_weak(taken, taken | bit, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return {memory_ + static_cast<size_t>(__builtin_ctzll(bit)) * frames_each_, frames_each_};
      }
    }
    return {};
  }

  PROF_ALWAYS_INLINE void Give(std::span<Frame> buffer) {
    size_t index = static_cast<size_t>(buffer.data() - memory_) / frames_each_;
    taken_.fetch_and(~(uint64_t{1} << index), std::memory_order_release);
  }

 private:
  std::atomic<uint64_t> taken_{0};
  Frame* memory_ = nullptr;
  uint32_t frames_each_ = 0;
};

}  // namespace profagent
