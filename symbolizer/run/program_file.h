// The file behind a command's name.
//
// Context: `offline`.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace profagent {

// The file that execvp would run for `command` with the search path `path`. The error's code is ENOENT (the shells'
// status 127) or what keeps the file from being executed (126).
Result<std::string> FindProgram(const std::string& command, const char* path);

}  // namespace profagent
