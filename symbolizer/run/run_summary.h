// The end of what `profagent run` says: the heaviest profile of each kind in a few lines, which files there are, and how
// to look further.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "agent/base/units.h"
#include "symbolizer/run/outputs.h"
#include "symbolizer/run/run_kinds.h"
#include "symbolizer/run/run_report.h"

namespace profagent {

// `cpu_time`: what the kernel says that the command used. At most `lines` lines a table, 0 for none.
void Summarize(const std::deque<Output>& outputs, const WantedKinds& wanted, Nanos cpu_time, int lines,
               RunReport& report);

// "3.21s", "12ms"
std::string SecondsText(uint64_t nanos);

}  // namespace profagent
