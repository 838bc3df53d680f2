// `profagent run`: the command line of symbolizer/run/run.h.
//
// Context: `offline`.
#pragma once

#include "symbolizer/cli/command.h"

namespace profagent {

// Takes the command that is to be run out of the command line (from `--`, or from the first word that is no option): its
// own options are none of ours. `argc` is cut to what is.
void RegisterRunCommand(CLI::App& app, CommandOutcome& outcome, int* argc, char** argv);

}  // namespace profagent
