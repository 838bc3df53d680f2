// Which file a process writes its profile to.
//
// Context: `bootstrap`, `dump`, `hook`, and `offline` for the processes of `profagent run`: no allocation.
// Rules:   %p is the pid, %e the program's name (200 bytes of it at most), %n the number of the dump, %% a per cent sign. Without %p the first
//          process of a run writes the plain name and every other process NAME.PROGRAM.PID, so that nobody overwrites
//          anybody. Of first processes that run at the same time the one that ends first has it (AppearedMeanwhile).
//          A process that becomes another program leaves the plain name to it and takes NAME.PROGRAM.PID with its old
//          program's name. What is written at the end takes the number after the last dump's.
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/program_name.h"
#include "agent/base/text.h"

namespace profagent {

struct ProcessName {
  std::string_view program;  // last component of the executable's path
  uint32_t pid;
  bool first;  // of all processes that got the same environment
};

enum class WrittenAt { kEnd, kExec };

// Whether %n is in it.
bool NamesTheDump(std::string_view pattern);

// Behind what a kind's name is put where several kinds have one pattern: ".prof" of "x.prof", ".pb.gz" of "x.pb.gz".
std::string_view ExtensionOf(std::string_view path);

// The file's name, added to a FixedText.
template <class Text>
void AddProfilePath(std::string_view pattern, const ProcessName& process, WrittenAt when,
                    uint32_t dump_number, Text* path) {
  const std::string_view program = ShortenedName(process.program);
  bool names_pid = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char next = pattern[i] == '%' && i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (next == 'p') {
      path->Add(process.pid);
      names_pid = true;
    } else if (next == 'e') {
      path->Add(program);
    } else if (next == 'n') {
      path->Add(dump_number);
    } else if (next == '%') {
      path->Add('%');
    } else {
      path->Add(pattern[i]);
      continue;
    }
    ++i;
  }
  if (when == WrittenAt::kExec || (!names_pid && !process.first)) {
    path->Add('.', program, '.', process.pid);
  }
}

// Empty when the name would be longer than a path can be.
PathText ProfilePath(std::string_view pattern, const ProcessName& process, WrittenAt when,
                     uint32_t dump_number);

// `path`.2, `path`.3 ...; of number 1 `path` itself. Empty as above, and of an empty one.
PathText NumberedPath(const PathText& path, uint32_t number);

}  // namespace profagent
