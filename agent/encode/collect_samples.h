// From the ledger's sites to the samples of one kind of profile.
//
// Context: `dump`, `offline`; memory from an Arena.
#pragma once

#include "agent/base/units.h"
#include "agent/encode/frame_table.h"
#include "agent/encode/module_table.h"
#include "agent/encode/profile_kind.h"
#include "agent/encode/sample_table.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

// Adds every sample of `kind` to `samples`, and to `frames` at least those whose names decide what is shown. Waits that have not
// ended are counted up to `now` on the monotonic clock. Returns how many records were damaged and left out.
uint64_t CollectSamples(const LedgerView& ledger, ProfileKind kind, Nanos now, const ModuleTable& modules,
                        Arena& arena, FrameTable* frames, SampleTable* samples);

}  // namespace profagent
