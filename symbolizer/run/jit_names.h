// Names for code that a process made at run time, where its runtime has described it for perf.
//
// Context: `offline`.
#pragma once

#include <deque>

#include "symbolizer/run/outputs.h"
#include "symbolizer/run/run_report.h"

namespace profagent {

// Of every profile by the map of its process, then by those of the processes that this was forked from; to be called before
// several are merged. Says which files are of no use, and how to come by names when much of the CPU time has none.
void NameJitCode(std::deque<Output>& outputs, RunReport& report);

}  // namespace profagent
