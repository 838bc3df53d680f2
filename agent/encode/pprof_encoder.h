// A ledger as a pprof profile: profile.proto's bytes, as Go writes them.
//
// Context:   `dump` and `offline`: may run in a signal handler on a 64 KiB stack; memory from an Arena only.
// Promises:  a pure function: equal ledger content, request and names give equal bytes, whatever the order in
//            which threads recorded. Fields are written in the order of their numbers, as the protobuf library does.
// Names:     function names are embedded mangled, in name and system_name alike: pprof demangles them. What has no
//            name gets one from its module (`libfoo.so+0x1f`) or address (`0x7f0012345678`), and each mapping says
//            has_functions: otherwise `go tool pprof` would look for names itself and overwrite ours with nothing.
// Without memory: samples are left out, and a comment says how many.
#pragma once

#include <span>
#include <string_view>

#include "agent/base/arena.h"
#include "agent/base/result.h"
#include "agent/base/units.h"
#include "agent/encode/byte_sink.h"
#include "agent/encode/profile_kind.h"
#include "agent/encode/symbol_source.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

struct EncodeRequest {
  ProfileKind kind = ProfileKind::kCpu;
  // The end of the profile on the monotonic clock of the process: now, or its death. 0: not known. A CPU profile
  // that was stopped ended then. Waits that have not ended are counted up to it.
  Nanos end_monotonic;
  // Further comments. pprof prints those that do not start with '#' at the top of every report.
  std::span<const std::string_view> comments;
};

// Plain and gzip'd. An error is what the sink could not take, or no memory at all.
Status EncodeProfile(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols,
                     Arena& arena, ByteSink sink);
Status EncodeProfileGzip(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols,
                         Arena& arena, ByteSink sink);

}  // namespace profagent
