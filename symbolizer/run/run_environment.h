// The environment of a command that is profiled: ours, plus what makes the agent start and record for us.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace profagent {

struct AgentSettings {
  std::string library;           // absolute path of libprofagent.so
  std::string ledger_directory;  // absolute
  std::string profile;  // CPUPROFILE: where a process that cannot use the ledger directory writes by itself
  uint32_t cpu_hz = 0;  // 0: as the environment says
};

// `environment` is null-terminated NAME=VALUE, as environ. A preloaded library of the user stays, behind ours.
std::vector<std::string> MakeRunEnvironment(const char* const* environment, const AgentSettings& settings);

}  // namespace profagent
