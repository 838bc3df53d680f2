// The counts of a heap profile: sampled blocks that were allocated and freed, and which of them made the peak.
//
// Context:   `hook`, `signal`. No lock; every update is a handful of atomic operations.
// Peak:      the profile as it was when the heap was at its largest, without ever copying a profile. The height is
//            heap_inuse, the estimate of live bytes. While it rises beyond all that was before, the peak is simply now
//            (heap_at_peak). The first free after that numbers the height that is being left (heap_peak), and from then
//            on a site saves what it holds before its first change: copy on write, one number a site. A site that still
//            has an older number has not changed since, so what it holds now is what it held then.
// How exact: to the sampled block, in one thread. Threads that allocate and free in the same instant as the heap begins to
//            fall may be seen on either side of it: as many blocks may be wrong as threads were at it.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/ledger/ledger.h"

namespace profagent {

// One more sampled block that was allocated and is live.
PROF_SIGNAL_SAFE void CountAllocation(LedgerHeader* header, HeapSiteRecord* site);
// It was freed.
PROF_SIGNAL_SAFE void CountFree(LedgerHeader* header, HeapSiteRecord* site);

}  // namespace profagent
