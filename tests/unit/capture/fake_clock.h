// CLOCK_MONOTONIC as the test says, for what is measured with MonotonicNow.
#pragma once

#include "agent/capture/monotonic_clock.h"

namespace profagent {

class FakeClock {
 public:
  FakeClock() : before_(g_clock_gettime) {
    now_ = 1'000'000;
    g_clock_gettime = Read;
  }
  ~FakeClock() { g_clock_gettime = before_; }
  FakeClock(const FakeClock&) = delete;
  FakeClock& operator=(const FakeClock&) = delete;

  static void Advance(uint64_t nanos) { now_ += nanos; }
  static Nanos Now() { return Nanos{now_}; }

 private:
  static int Read(clockid_t, struct timespec* time) {
    *time = {static_cast<time_t>(now_ / kNanosPerSecond), static_cast<long>(now_ % kNanosPerSecond)};
    return 0;
  }

  static inline uint64_t now_ = 0;
  ClockFunction before_;
};

}  // namespace profagent
