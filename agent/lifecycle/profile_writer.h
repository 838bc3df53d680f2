// Puts a profile of this process into a file.
//
// Context:  `dump`: on OwnStack, with the signals of the thread blocked; the ledger may be written meanwhile.
// Failure:  one line on descriptor 2 that names the file and the reason; the program goes on.
#pragma once

#include "agent/ledger/ledger.h"
#include "agent/lifecycle/agent.h"
#include "agent/lifecycle/profile_names.h"

namespace profagent {

enum class WhenEmpty { kWrite, kSkip };

// True: the file is there now.
bool WriteCpuProfile(Agent& agent, const PathText& path, WhenEmpty when_empty);

// `path`, or the first of path.2, path.3, ... that does not exist: for names that no rule makes unique.
PathText UnusedPath(const PathText& path);

// What %e stands for; lives in the ledger.
std::string_view ProgramName(Ledger& ledger);

}  // namespace profagent
