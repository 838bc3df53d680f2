// Profiles of every kind as the agent writes them: a ledger made by hand, through the agent's own encoder.
#pragma once

#include <string>
#include <vector>

namespace profagent {

struct AgentProfile {
  std::string name;
  std::string bytes;  // of the file
};

// Always the same ones, bit for bit. Empty when a ledger could not be made.
std::vector<AgentProfile> AgentProfiles();

}  // namespace profagent
