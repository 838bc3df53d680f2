// The viewer's command line: `profagent [options] [binary] PROFILE...`, spelled as for `go tool pprof`.
//
// Context: `offline`.
#pragma once

#include <string>
#include <vector>

namespace profagent {

// Everything after the program's name. Returns the exit status; errors are printed.
int RunViewer(const std::vector<std::string>& arguments);

// The options, one a line, for `profagent --help`.
std::string ViewerOptionsHelp();

}  // namespace profagent
