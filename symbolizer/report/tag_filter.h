// -tagfocus and -tagignore: a range of a numeric label ("1kb:10kb", "latency=:5ms"), or expressions for
// string labels.
//
// Context: `offline`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "symbolizer/graph/filter.h"

namespace profagent {

using LabelUnits = std::map<graph::StringId, graph::StringId>;  // of each numeric label's key

// An empty filter text is no test. A filter that was taken for a range says so in `warnings`.
Result<graph::SampleTest> CompileTagFilter(const graph::View& view, const LabelUnits& units,
                                           const std::string& name, const std::string& filter,
                                           std::vector<std::string>& warnings);

}  // namespace profagent
