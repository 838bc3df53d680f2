// Return addresses in code of no loaded object (a JIT compiler's) that were looked at before: they are behind a call, and neither an
// epilogue nor anything else that says where the frame is, so that only the frame pointer does.
//
// Context:  `signal`, `hook`.
// Why:      looking is two system calls a frame, for the code is not known to be mapped: a tick over 100 frames of node took 470 us.
// Believed: for ever. Should other code be there one day, an address on a chain of frame pointers is no less plausible than it was.
// Memory:   4 KiB, direct-mapped; of two addresses of one place the last one stays.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

class KnownCalls {
 public:
  PROF_ALWAYS_INLINE bool Has(uintptr_t address) const {
    return address != 0 && slots_[Place(address)].load(std::memory_order_relaxed) == address;
  }
  PROF_ALWAYS_INLINE void Add(uintptr_t address) {
    slots_[Place(address)].store(address, std::memory_order_relaxed);
  }

 private:
  static constexpr unsigned kBits = 9;

  static PROF_ALWAYS_INLINE size_t Place(uintptr_t address) {
    return address * 0x9e3779b97f4a7c15 >> (64 - kBits);
  }

  std::atomic<uintptr_t> slots_[size_t{1} << kBits];  // zeros: nothing
};

}  // namespace profagent
