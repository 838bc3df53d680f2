// Arithmetic with floating-point numbers in the application's threads, of which the application sees nothing.
//
// Context: `hook` and `dump`. (In a signal handler the kernel has put a state of its own in place.)
// Why:     what was inexact, denormal or too small for a number stays in the thread's flags, where the application looks for
//          what its own arithmetic did (fetestexcept, Fortran's STOP); and where it has such things raise SIGFPE
//          (feenableexcept, gfortran -ffpe-trap), ours would, too. Its rounding is not ours either.
// How:     numbers pass through memory that the compiler may not see through, on the way in and on the way out: arithmetic
//          stays between the two.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

class PlainFloats {
 public:
  PROF_ALWAYS_INLINE PlainFloats() {
    constexpr uint32_t kAllMasked = 0x1f80;
    constexpr uint16_t kAllMaskedExtended = 0x37f;
    // The second one masks, too, so that what is pending there is not raised by the third.
    asm volatile("stmxcsr %0" : "=m"(mxcsr_));
    asm volatile("fnstenv %0" : "=m"(x87_));
    asm volatile("fldcw %0" : : "m"(kAllMaskedExtended));
    asm volatile("ldmxcsr %0" : : "m"(kAllMasked));
  }
  PROF_ALWAYS_INLINE ~PlainFloats() {
    asm volatile("fldenv %0" : : "m"(x87_));
    asm volatile("ldmxcsr %0" : : "m"(mxcsr_));
  }
  PlainFloats(const PlainFloats&) = delete;
  PlainFloats& operator=(const PlainFloats&) = delete;

  template <typename T>
  static PROF_ALWAYS_INLINE void Pin(T& number) {
    asm volatile("" : "+m"(number));
  }

 private:
  uint32_t mxcsr_;
  uint8_t x87_[28];
};

// compute(inputs...), which leaves the thread's state as it was.
template <typename Compute, typename... Inputs>
PROF_ALWAYS_INLINE auto WithPlainFloats(const Compute& compute, Inputs... inputs) {
  PlainFloats state;
  (PlainFloats::Pin(inputs), ...);
  auto result = compute(inputs...);
  PlainFloats::Pin(result);
  return result;
}

}  // namespace profagent
