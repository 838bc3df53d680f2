// How many things are known of the addresses of each class: a first look that costs one load.
//
// Context:   `hook`, `signal`. May err towards "look closer", never away.
// Classes:   4096, by the 32 bytes that an address lies in. A class that holds 65535 things at once stays raised for good.
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

  // How often it is raised for `address` and for others that share its count, less the times that were lost.
  PROF_ALWAYS_INLINE uint32_t Count(const void* address) const {
    return counts_[ClassOf(address)].load(std::memory_order_relaxed);
  }

  PROF_ALWAYS_INLINE void Raise(const void* address) {
    std::atomic<uint16_t>& count = counts_[ClassOf(address)];
    uint16_t old = count.load(std::memory_order_relaxed);
    // seq_cst: raised before the caller looks at the lock again.
    while (old != kStuck && !count.compare_exchange_weak(old, static_cast<uint16_t>(old + 1))) {
    }
  }

  PROF_ALWAYS_INLINE void Lower(const void* address) {
    std::atomic<uint16_t>& count = counts_[ClassOf(address)];
    uint16_t old = count.load(std::memory_order_relaxed);
    while (old != kStuck && old != 0 &&
           !count.compare_exchange_weak(old, static_cast<uint16_t>(old - 1), std::memory_order_relaxed)) {
    }
  }

  void Reset() {
    for (std::atomic<uint16_t>& count : counts_) {
      if (count.load(std::memory_order_relaxed) != 0)
        count.store(0, std::memory_order_relaxed);  // no page for nothing
    }
  }

 private:
  static constexpr uint32_t kClasses = 4096;
  static constexpr uint16_t kStuck = UINT16_MAX;

  PROF_ALWAYS_INLINE static uint32_t ClassOf(const void* address) {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(address) >> 5) & (kClasses - 1);
  }

  std::atomic<uint16_t> counts_[kClasses] = {};
};

}  // namespace profagent
