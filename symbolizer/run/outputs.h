// Which profile goes into which file.
//
// Context: `offline`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "symbolizer/run/harvest.h"
#include "symbolizer/run/output_names.h"
#include "symbolizer/run/run_kinds.h"

namespace profagent {

// A process whose code may be in a profile: its own, or one that it was forked from.
struct CodeOrigin {
  pid_t pid = 0;
  uint64_t began_nanos = 0;  // since 1970
};

// A profile that is written, or will be.
struct Output {
  ProfileKind kind = ProfileKind::kCpu;
  std::string file;
  // Keys, equal for all that is about one process, or about one program that it was: what one was at its peak says nothing of
  // what the other allocated.
  std::string process, image;
  std::vector<CodeOrigin> origins;  // the process first; none of a file that a process wrote
  std::string whose;                // "cc1plus (pid 12)"
  int64_t weight = 0;               // sum of the value that RunKind names
  Profile profile;
  bool self_written = false;  // by the process, not by us: the file is there already
  size_t images = 1;          // added up in it
  bool written = false;       // the file is there
};

class Outputs {
 public:
  explicit Outputs(const WantedKinds& wanted) : wanted_(wanted) {}

  // A file that a process wrote without us. False: it is no such profile, or another run's.
  bool AddSelfWritten(const OutputNames::SelfWritten& written);

  // The command's own process gets the plain names, but for those that it wrote itself; NAME.PROGRAM.PID in place of one that
  // another run has written meanwhile. Of what was asked for by name and of CPU time a profile in any case. Everything else is
  // written where it has samples. Takes the profiles out of `harvest`.
  void AddHarvest(Harvest& harvest, pid_t main_pid, OutputNames& names);

  // All of a kind as one under the name of the command's own; mapping[0] is the command's program. Files that processes wrote
  // themselves are removed then. On an error nothing changes.
  Status Merge();

  std::deque<Output>& all() { return outputs_; }

 private:
  WantedKinds wanted_;
  std::deque<Output> outputs_;  // the command's own first
  std::map<ProfileKind, std::string> plain_names_;
};

std::string ProcessText(const ProcessProfiles& process);

// The last program that the command's own process was; nullptr: it left no records.
const ProcessProfiles* MainImage(const Harvest& harvest, pid_t main_pid);

}  // namespace profagent
