// Waiting for another thread, mostly for one that is within a few instructions of being done.
//
// Context: every one. System calls only where that thread is not at work.
// Sleeps:  after a while, for a thread of real-time priority that waits for one below it on its own processor would else wait for
//          ever.
#pragma once

#include <time.h>

#include <cstdint>

#include "agent/base/raw_syscall.h"
#include "agent/base/signal_safe.h"

namespace profagent {

// For a thread that looks again and again whether another one is done with work that takes longer.
inline void SleepMillisecond() {
  struct timespec millisecond = {0, 1'000'000};
  RawSyscall(SYS_nanosleep, &millisecond, nullptr);
}

class ShortWait {
 public:
  PROF_ALWAYS_INLINE void Once() {
    if (times_ < kSpins) {
      ++times_;
      __builtin_ia32_pause();
    } else if (times_ < kSpins + kYields) {
      ++times_;
      RawSyscall(SYS_sched_yield);
    } else {
      struct timespec pause = {0, 50 * 1000};
      RawSyscall(SYS_nanosleep, &pause, nullptr);
    }
  }

 private:
  static constexpr uint32_t kSpins = 8;
  static constexpr uint32_t kYields = 1000;

  uint32_t times_ = 0;
};

}  // namespace profagent
