// Where libprofagent.so is, as seen from the profagent command that runs now.
//
// Context: `offline`.
// Order:   PROFAGENT_LIBRARY; the build tree that this command was built in (../agent/ from the command); where
//          `meson install` put the library, relative to the command, so that an installed tree can be moved as a whole;
//          the same as an absolute path.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace profagent {

// An absolute path of a file that can be read. The error lists what was looked at.
Result<std::string> FindAgentLibrary();

}  // namespace profagent
