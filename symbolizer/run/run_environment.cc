#include "symbolizer/run/run_environment.h"

#include <string_view>

namespace profagent {

std::vector<std::string> MakeRunEnvironment(const char* const* environment, const AgentSettings& settings) {
  std::vector<std::string> variables;
  std::string preload = "LD_PRELOAD=" + settings.library;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    if (variable.starts_with("LD_PRELOAD=")) {
      if (variable.size() > sizeof("LD_PRELOAD=") - 1) {
        preload.append(":").append(variable.substr(sizeof("LD_PRELOAD=") - 1));
      }
      continue;
    }
    const bool replaced = variable.starts_with("PROFAGENT_LEDGER_DIR=") ||
                          variable.starts_with("CPUPROFILE=") || variable.starts_with("PROFAGENT_LINEAGE=") ||
                          (settings.cpu_hz != 0 && variable.starts_with("CPUPROFILE_FREQUENCY="));
    if (!replaced) variables.emplace_back(variable);
  }
  variables.push_back(std::move(preload));
  variables.push_back("PROFAGENT_LEDGER_DIR=" + settings.ledger_directory);
  variables.push_back("CPUPROFILE=" + settings.profile);
  if (settings.cpu_hz != 0) variables.push_back("CPUPROFILE_FREQUENCY=" + std::to_string(settings.cpu_hz));
  return variables;
}

}  // namespace profagent
