// exp and ln for the sampling arithmetic: the agent may need libc only, and these are libm's.
//
// Context: every one. Pure arithmetic, no table, no errno.
// Exact:   ExpOfNegative within 1 unit in the last place of a double (as Go's math.Exp, whose results decide what heap
//          values look like to the digit); NaturalLog within 1e-12, which a random draw does not notice.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

// e to the power -x, for x >= 0. 0 when that is less than a double can hold.
PROF_SIGNAL_SAFE double ExpOfNegative(double x);

// For 0 < x < infinity.
PROF_SIGNAL_SAFE double NaturalLog(double x);

}  // namespace profagent
