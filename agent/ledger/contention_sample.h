// What a sampled wait adds to a block profile, so that the profile is right on average.
//
// Context: every one: by the hook when the wait has ended, by the encoder for a wait that has not.
// Formula: Go's blocksampled (runtime/mprof.go, since 1.17). A wait of t ns is sampled always when t >= rate and with
//          probability t / rate else; in the latter case it stands for rate / t waits, together `rate` ns long.
#pragma once

#include <cstdint>

#include "agent/base/units.h"
#include "agent/ledger/layout.h"

namespace profagent {

struct ContentionSample {
  uint64_t count;  // in units of 1 / kContentionUnit
  uint64_t nanos;
};

// `waited` > 0.
constexpr ContentionSample BlockSample(Nanos waited, uint64_t rate) {
  if (waited.value >= rate) return {kContentionUnit, waited.value};
  uint64_t scaled = 0;
  if (__builtin_mul_overflow(rate, kContentionUnit, &scaled)) scaled = UINT64_MAX;
  return {scaled / waited.value, rate};
}

}  // namespace profagent
