// The text form of a profile: what Go's /debug/pprof/heap?debug=1 and its like say, which people read and old readers of
// pprof take.
//
// Context:  `dump`, `offline`; memory from an Arena. A pure function, as the encoder (pprof_encoder.h).
// Form:     go-pprof.md 3.1. Heap values are those of the samples, not unsampled. The list behind `@` holds return
//           addresses, the lines below it the calls themselves. Columns are aligned as Go's tabwriter does it.
// Ours:     the third column is the file that the function is in (we know no lines here). Mutex rows are scaled when they
//           are recorded, so `sampling period` is 1: a reader multiplies by it. The mappings follow, as gperftools writes
//           them: without them addresses of native programs mean nothing elsewhere.
#pragma once

#include "agent/base/arena.h"
#include "agent/base/result.h"
#include "agent/encode/byte_sink.h"
#include "agent/encode/pprof_encoder.h"
#include "agent/encode/symbol_source.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

// Of kHeap, kAllocs (the same text), kBlock and kMutex; an error for the others, which have no such form, and when the sink
// refuses or there is no memory at all.
Status EncodeText(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols, Arena& arena,
                  ByteSink sink);

}  // namespace profagent
