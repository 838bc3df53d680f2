// Two words that change together: the 16-byte compare and exchange of x86-64.
//
// Context: `hook`, `signal`. One instruction; every x86-64 processor since 2006 has it (the x86-64-v2 level).
// Why asm: the compilers' own 16-byte atomics call libatomic, which the agent cannot need.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

struct WidePair {
  uint64_t low;
  uint64_t high;
};

struct alignas(16) WideWord {
  std::atomic<uint64_t> low;
  std::atomic<uint64_t> high;

  // The halves may be of two different moments. An exchange that expects such a pair fails, so a loop of load and exchange
  // needs no more. acquire: what was stored before the value was is seen.
  PROF_ALWAYS_INLINE WidePair Load() const {
    WidePair pair;
    pair.low = low.load(std::memory_order_acquire);
    pair.high = high.load(std::memory_order_acquire);
    return pair;
  }
  // Sequentially consistent, as every locked instruction.
  PROF_ALWAYS_INLINE bool Exchange(WidePair expected, WidePair wanted) {
    bool done;
    asm volatile("lock cmpxchg16b %1"
                 : "=@ccz"(done), "+m"(*this), "+a"(expected.low), "+d"(expected.high)
                 : "b"(wanted.low), "c"(wanted.high)
                 : "memory");
    return done;
  }
  // In a forked child, which has one thread. One that is zero (low is) is not written: no page for nothing.
  void Clear() {
    if (low.load(std::memory_order_relaxed) == 0) return;
    low.store(0, std::memory_order_relaxed);
    high.store(0, std::memory_order_relaxed);
  }
};
static_assert(sizeof(WideWord) == 16);

}  // namespace profagent
