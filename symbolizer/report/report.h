// A profile to the text that somebody reads, byte for byte as `go tool pprof` of Go 1.19 prints it.
//
// The order of the steps is pprof's and shows in the output: the total is taken before the filters (unless
// percentages are relative), frames from labels exist before the filters, and places are told apart only
// after them.
//
// Context: `offline`.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "symbolizer/graph/view.h"
#include "symbolizer/report/options.h"

namespace profagent {

struct ReportText {
  std::string text;
  std::vector<std::string> warnings;  // for stderr, in pprof's words: "Focus expression matched no samples"
};

Result<ReportText> MakeReport(graph::View view, const ReportOptions& options);

// The same of a profile as ReadProfile, MergeProfiles or the symbolizer left it. Names are demangled and
// drop_frames applied first, as the viewer does.
Result<ReportText> MakeReport(const Profile& profile, const ReportOptions& options);

}  // namespace profagent
