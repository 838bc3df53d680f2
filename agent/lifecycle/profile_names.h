// Which file a process writes its profile to.
//
// Context: `bootstrap`, `dump`, `hook`: no allocation.
// Rules:   %p is the pid, %e the program's name (200 bytes of it at most), %n the number of the dump, %% a per cent sign. Without %p the first
//          process of a run writes the plain name and every other process NAME.PROGRAM.PID, so that nobody overwrites
//          anybody. Of first processes that run at the same time the one that ends first has it (AppearedMeanwhile).
//          A process that becomes another program leaves the plain name to it and takes NAME.PROGRAM.PID with its old
//          program's name. What is written at the end takes the number after the last dump's.
#pragma once

#include <string_view>

#include "agent/base/text.h"

namespace profagent {

inline constexpr size_t kMaxPath = 4096;
using PathText = FixedText<kMaxPath>;

struct ProcessName {
  std::string_view program;  // last component of the executable's path
  uint32_t pid;
  bool first;  // of all processes that got the same environment
};

enum class WrittenAt { kEnd, kExec };

// Whether %n is in it.
bool NamesTheDump(std::string_view pattern);

// Empty when the name would be longer than a path can be.
PathText ProfilePath(std::string_view pattern, const ProcessName& process, WrittenAt when,
                     uint32_t dump_number);

// `path`.2, `path`.3 ...; of number 1 `path` itself. Empty as above, and of an empty one.
PathText NumberedPath(const PathText& path, uint32_t number);

}  // namespace profagent
