// How many things are known of the addresses of each class: a first look that costs one load.
//
// Context:   `hook`, `signal`. May err towards "look closer", never away.
// Classes:   4096, by the 32 bytes that an address lies in, spread by Fibonacci hashing. Neighbours are far apart, or two busy
//            locks side by side would take a cache line from each other. Locks at the same place of large pieces of memory (a
//            mapping each, a thread's arena, a stack) are many, and differ in their upper bits only: every bit counts.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

class AddressFilter {
 public:
  PROF_ALWAYS_INLINE bool MayHold(const void* address) const {
    return counts_[ClassOf(address)].load(std::memory_order_relaxed) != 0;
  }

  // How often it is raised for `address` and for others that share its count.
  PROF_ALWAYS_INLINE uint32_t Count(const void* address) const {
    return counts_[ClassOf(address)].load(std::memory_order_relaxed);
  }

  // seq_cst: raised before the caller looks at the lock again. Not by a compare-exchange: the look before it would fetch the
  // cache line a first time.
  PROF_ALWAYS_INLINE void Raise(const void* address) { counts_[ClassOf(address)].fetch_add(1); }

  PROF_ALWAYS_INLINE void Lower(const void* address) {
    std::atomic<uint32_t>& count = counts_[ClassOf(address)];
    if (count.fetch_sub(1, std::memory_order_relaxed) == 0) [[unlikely]]
      count.fetch_add(1, std::memory_order_relaxed);  // a fork emptied it meanwhile
  }

  void Reset() {
    for (std::atomic<uint32_t>& count : counts_) {
      if (count.load(std::memory_order_relaxed) != 0)
        count.store(0, std::memory_order_relaxed);  // no page for nothing
    }
  }

 private:
  static constexpr uint32_t kLog2Classes = 12;
  static constexpr uint32_t kClasses = 1 << kLog2Classes;

  PROF_ALWAYS_INLINE static uint32_t ClassOf(const void* address) {
    uint64_t key = reinterpret_cast<uintptr_t>(address) >> 5;
    return static_cast<uint32_t>(key * 0x9e3779b97f4a7c15 >> (64 - kLog2Classes));
  }

  std::atomic<uint32_t> counts_[kClasses] = {};
};

}  // namespace profagent
