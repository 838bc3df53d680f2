// Would profiling this program work, and if not, why not, and what can be done?
//
// Context:    `offline`. Nothing is run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace profagent {

enum class Verdict : uint8_t {
  kFine,
  kLimited,  // profiles are made, but something in them is missing or less exact
  kBlocked,  // no profile is made
};

struct Finding {
  Verdict verdict = Verdict::kFine;
  std::string meaning;          // the fact, and what follows from it
  std::string remedy;           // "" when there is nothing to do
  std::string empty_heap = {};  // why a heap profile is empty; "" when it is not
  std::string small_heap = {};  // why it has only what comes by malloc; "" when that is all
  bool dies_of_agent = false;   // its loader does not ignore a library that it cannot load

  std::string Text() const;  // one line
};

struct CheckReport {
  std::string path;  // the ELF file that was looked at: of a script, its interpreter
  std::vector<Finding> findings;

  Verdict verdict() const;  // the worst
  std::string VerdictText() const;
};

// `program` as a shell finds it: with a slash, that file; without, along PATH. An error when there is no such
// file, or it is neither an ELF file nor a script.
Result<CheckReport> CheckBinary(const std::string& program);

}  // namespace profagent
