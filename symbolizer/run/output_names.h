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

#include "agent/base/result.h"

namespace profagent {

inline constexpr std::string_view kDefaultProfileName = "cpu.prof";

class OutputNames {
 public:
  // `wanted`: what -o says, empty when it was not given. A directory (it exists, or the text ends with a slash: then it
  // is made) holds kDefaultProfileName. An error when no file could be written there, before anything was run.
  static Result<OutputNames> Prepare(const std::string& wanted);

  // Each call gives a name away.
  std::string Next(std::string_view program, uint32_t pid, bool plain);

  const std::string& pattern() const { return pattern_; }  // absolute

 private:
  explicit OutputNames(std::string pattern) : pattern_(std::move(pattern)) {}

  std::string pattern_;
  std::set<std::string> given_;
};

}  // namespace profagent
