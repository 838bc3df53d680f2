// Which profile goes into which file.
//
// Context: `offline`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <string>

#include "symbolizer/run/harvest.h"
#include "symbolizer/run/output_names.h"

namespace profagent {

// A profile that is written, or will be.
struct Output {
  std::string file;
  std::string what;  // whose: "cc1plus (pid 12)"
  uint64_t cpu_nanos = 0;
  Profile profile;
  bool self_written = false;  // by the process, not by us: the file is there already
};

class Outputs {
 public:
  // A file that a process wrote without us. False: it is no profile.
  bool AddSelfWritten(const std::string& file);

  // The command's own process gets the plain name, unless it wrote that itself; of the others those with samples get a
  // file. Takes the profiles out of `harvest`.
  void AddHarvest(Harvest& harvest, pid_t main_pid, OutputNames& names);

  // All of them as one under the plain name; mapping[0] is the command's program. Files that processes wrote themselves
  // are removed then. On an error nothing changes.
  Status Merge();

  std::deque<Output>& all() { return outputs_; }

 private:
  std::deque<Output> outputs_;  // the command's own first
  std::string plain_name_;
};

std::string ProcessText(const ProcessProfile& process);

// The last program that the command's own process was; nullptr: it left no records.
const ProcessProfile* MainImage(const Harvest& harvest, pid_t main_pid);

}  // namespace profagent
