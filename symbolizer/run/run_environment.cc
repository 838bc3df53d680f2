#include "symbolizer/run/run_environment.h"

#include <optional>
#include <string_view>
#include <utility>

namespace profagent {
namespace {

constexpr std::string_view kPreload = "LD_PRELOAD=";

// Variables with their values; those that must not be there have none.
using Settings = std::map<std::string, std::optional<std::string>, std::less<>>;

void SetRate(const char* const* environment, const KindRequest& request, ProfileKind kind,
             Settings& settings) {
  const std::string variable(RateVariable(kind));
  if (request.taken && request.rate) {
    settings[variable] = std::to_string(*request.rate);
  } else if (!request.taken) {
    // Block and mutex profiles are off when none of their variables is there, a heap profile is when this one is 0.
    settings[variable] = kind == ProfileKind::kHeap ? std::optional<std::string>("0") : std::nullopt;
  } else if (IsSwitchedOff(environment, kind)) {  // and yet asked for
    settings[variable] = std::nullopt;
  }
}

Settings SettingsOf(const char* const* environment, const AgentSettings& agent) {
  Settings settings;
  settings["PROFAGENT_LEDGER_DIR"] = agent.ledger_directory;
  for (const char* name : {"PROFAGENT_LINEAGE", "CPUPROFILE", "HEAPPROFILE"}) settings[name] = std::nullopt;
  for (const RunKind& kind : kRunKinds) {
    const auto file = agent.files.find(kind.kind);
    settings[std::string(kind.variable)] =
        file != agent.files.end() ? std::optional(file->second) : std::nullopt;
  }
  SetRate(environment, agent.kinds.cpu, ProfileKind::kCpu, settings);
  SetRate(environment, agent.kinds.heap, ProfileKind::kHeap, settings);
  SetRate(environment, agent.kinds.block, ProfileKind::kBlock, settings);
  SetRate(environment, agent.kinds.mutex, ProfileKind::kMutex, settings);
  return settings;
}

}  // namespace

std::vector<std::string> CopyEnvironment(const char* const* environment) {
  std::vector<std::string> variables;
  for (; environment != nullptr && *environment != nullptr; ++environment)
    variables.emplace_back(*environment);
  return variables;
}

std::vector<std::string> MakeRunEnvironment(const char* const* environment, const AgentSettings& agent) {
  const Settings settings = SettingsOf(environment, agent);
  std::vector<std::string> variables;
  std::string preload = std::string(kPreload) + agent.library;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    if (variable.starts_with(kPreload)) {
      if (variable.size() > kPreload.size()) preload.append(":").append(variable.substr(kPreload.size()));
      continue;
    }
    if (!settings.contains(variable.substr(0, variable.find('=')))) variables.emplace_back(variable);
  }
  variables.push_back(std::move(preload));
  for (const auto& [name, value] : settings) {
    if (value) variables.push_back(name + "=" + *value);
  }
  return variables;
}

}  // namespace profagent
