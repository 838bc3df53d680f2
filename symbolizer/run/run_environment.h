// The environment of a command that is profiled: ours, plus what makes the agent start and record for us.
//
// Context: `offline`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "symbolizer/run/run_kinds.h"

namespace profagent {

struct AgentSettings {
  std::string library;           // absolute path of libprofagent.so
  std::string ledger_directory;  // absolute
  WantedKinds kinds;
  // Where a process that cannot use the ledger directory writes by itself; of each kind that is written.
  std::map<ProfileKind, std::string> files;
};

// `environment` is null-terminated NAME=VALUE, as environ.
std::vector<std::string> CopyEnvironment(const char* const* environment);
// A preloaded library of the user stays, behind ours.
std::vector<std::string> MakeRunEnvironment(const char* const* environment, const AgentSettings& settings);

}  // namespace profagent
