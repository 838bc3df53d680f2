// `profagent run`: starts a command with the agent preloaded, and turns what its processes recorded into profiles when
// it is over.
//
// Context: `offline`.
// Order:   everything that can fail is tried before the command starts (the output directory, the agent, the command
//          itself); afterwards the command's fate is never changed by ours. Profiles are written with the names of the
//          symbol tables first and once more with files, lines and inlined functions: whoever presses ^C while debug
//          information is being read has profiles already.
// Ends:    when the command ends, as it would without us. Processes that it leaves running are harvested as they are
//          at that moment, and named; with `wait_for_all` run waits for them.
#pragma once

#include <string>
#include <vector>

#include "symbolizer/run/run_kinds.h"

namespace profagent {

struct RunOptions {
  std::vector<std::string> command;  // at least one word
  WantedKinds kinds;
  std::string output;  // -o; empty: cpu.prof, heap.prof ... in the current directory
  bool merge = false;  // one profile of each kind for the whole tree
  bool symbolize = true;
  int top = 10;  // lines of a table at the end; 0: none
  bool keep_ledgers = false;
  bool wait_for_all = false;
  bool quiet = false;  // errors only
};

// The exit status: the command's own, 128 + n when it died of signal n, 127 when it was not found, 126 when it cannot
// be executed, 1 when run itself could not do its work before the command started.
int Run(const RunOptions& options);

}  // namespace profagent
