// Where the profiles of a run go: -o and the rules of names.
//
// Context: `offline`.
// Rules:   the command's own process takes the plain NAME, every other process NAME.PROGRAM.PID. A process that became
//          another program (exec) leaves the plain name to that one and takes NAME.PROGRAM.PID with its old program's
//          name. %p in NAME stands for the pid and %e for the program (%% for a per cent sign); with %p nothing is
//          added. A name that this run has given already gets .2, .3 ...: nobody overwrites anybody.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace profagent {

inline constexpr std::string_view kDefaultProfileName = "cpu.prof";

class OutputNames {
 public:
  // `wanted`: what -o says, empty when it was not given. A directory (it exists, or the text ends with a slash: then it
  // is made) holds kDefaultProfileName. An error when no file could be written there, before anything was run.
  static Result<OutputNames> Prepare(const std::string& wanted);

  // Files of these names that came into being since Prepare: written by processes that could not use the ledger
  // directory (it was full, or closed to them) and so wrote their profiles themselves. They are not given away again.
  // A pattern with %p or %e is not looked for.
  std::vector<std::string> TakeSelfWritten();

  // The name of the command's own profile.
  std::string Plain(std::string_view program, uint32_t pid) const;
  bool IsTaken(const std::string& name) const { return given_.contains(name); }

  // Each call gives a name away.
  std::string Next(std::string_view program, uint32_t pid, bool plain);

  const std::string& pattern() const { return pattern_; }  // absolute

 private:
  struct Expanded {
    std::string name;
    bool names_pid;
  };
  Expanded Expand(std::string_view program, uint32_t pid) const;

  explicit OutputNames(std::string pattern);

  std::string pattern_;
  std::set<std::pair<std::string, uint64_t>> before_;  // files with such names, and which file (inode) it was
  std::set<std::string> given_;
};

}  // namespace profagent
