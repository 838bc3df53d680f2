// Puts a profile of this process into a file.
//
// Context:  `dump`: on OwnStack, with the signals of the thread blocked; other threads may add to the ledger meanwhile.
// Paths:    a relative one means the directory in which the program was started, wherever it went since.
// Failure:  one line on descriptor 2 that names the file and the reason; the program goes on.
#pragma once

#include <string_view>

#include "agent/ledger/ledger.h"
#include "agent/lifecycle/profile_names.h"
#include "agent/lifecycle/wanted_profiles.h"

namespace profagent {

enum class WhenEmpty { kWrite, kSkip };
enum class Afterwards { kProcessGoesOn, kProcessEnds };

// True: the file is there now.
bool WriteProfile(const Ledger& ledger, const WantedProfile& profile, std::string_view path,
                  WhenEmpty when_empty, Afterwards afterwards);

PathText AbsolutePath(const Ledger& ledger, std::string_view path);

// `path`, or the first of path.2, path.3, ... that does not exist: for names that no rule makes unique.
PathText UnusedPath(const Ledger& ledger, const PathText& path);

// A regular file that is newer than this process: somebody else's, who got the same name from a launcher without the
// agent (`mpirun env LD_PRELOAD=...`, `app & app &`), since a process writes there once, at its end.
bool AppearedMeanwhile(const Ledger& ledger, const PathText& path);

// What %e stands for; lives in the ledger.
std::string_view ProgramName(const Ledger& ledger);

}  // namespace profagent
