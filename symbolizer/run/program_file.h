// The file behind a command's name, and what of it can be told before it runs.
//
// Context: `offline`.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace profagent {

// The file that execvp would run for `command` with the search path `path`. The error's code is ENOENT (the shells'
// status 127) or what keeps the file from being executed (126).
Result<std::string> FindProgram(const std::string& command, const char* path);

// Why a preloaded library will not get into this program, as one sentence without a full stop; empty: nothing speaks
// against it. Follows the interpreter of a script. Only looks: the program is run in any case.
std::string WhyNotPreloadable(const std::string& program);

}  // namespace profagent
