// A walk that did not reach the outermost frame is counted by the reason why.
//
// Context: `signal`, `hook`.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/ledger/ledger.h"

namespace profagent {

PROF_ALWAYS_INLINE void CountWalkEnd(Ledger& ledger, WalkEnd end) {
  switch (end) {
    case WalkEnd::kOutermost:
      break;
    case WalkEnd::kDepthLimit:
      ledger.Count(Loss::kStackDepthLimit);
      break;
    case WalkEnd::kUnreadable:
      ledger.Count(Loss::kStackUnreadable);
      break;
    case WalkEnd::kNoUnwindInfo:
      ledger.Count(Loss::kStackNoInfo);
      break;
    case WalkEnd::kNoProgress:
      ledger.Count(Loss::kStackNoProgress);
      break;
  }
}

}  // namespace profagent
