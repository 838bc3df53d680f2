#include "symbolizer/run/outputs.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"
#include "symbolizer/profile/sample_values.h"

namespace profagent {
namespace {

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Output MakeOutput(ProfileKind kind, std::string file, std::string whose, Profile profile) {
  const int64_t weight = SumOfValues(profile, RunKindOf(kind).value);
  return {kind, std::move(file), std::move(whose), weight, std::move(profile), false};
}

}  // namespace

std::string ProcessText(const ProcessProfiles& process) {
  return process.program + " (pid " + std::to_string(process.pid) + ")";
}

const ProcessProfiles* MainImage(const Harvest& harvest, pid_t main_pid) {
  const ProcessProfiles* last = nullptr;
  for (const ProcessProfiles& process : harvest.processes) {
    if (process.pid == static_cast<uint32_t>(main_pid)) last = &process;
  }
  return last;
}

bool Outputs::AddSelfWritten(const OutputNames::SelfWritten& written) {
  Result<Profile> profile = ReadProfile(written.file);
  if (!profile || IndexOfValue(*profile, RunKindOf(written.kind).value) < 0) return false;
  outputs_.push_back(
      MakeOutput(written.kind, written.file, "from " + LastComponent(written.file), Compact(*profile)));
  outputs_.back().self_written = true;
  return true;
}

void Outputs::AddHarvest(Harvest& harvest, pid_t main_pid, OutputNames& names) {
  const ProcessProfiles* main_image = MainImage(harvest, main_pid);
  std::set<std::string> self_written;
  for (const auto& [kind, pattern] : names.patterns()) {
    const std::string plain = names.Plain(kind, main_image != nullptr ? main_image->program : "unknown",
                                          static_cast<uint32_t>(main_pid));
    if (names.IsTaken(plain)) self_written.insert(plain);
    plain_names_[kind] = plain;
  }
  std::deque<Output> of_main;
  for (ProcessProfiles& process : harvest.processes) {
    for (KindProfile& taken : process.profiles) {
      const bool is_main = &process == main_image && !self_written.contains(plain_names_[taken.kind]);
      const bool wanted_empty = taken.kind == ProfileKind::kCpu || wanted_.Of(taken.kind).asked;
      if (taken.profile.sample_size() == 0 && !(is_main && wanted_empty)) continue;
      Output output = MakeOutput(taken.kind, names.Next(taken.kind, process.program, process.pid, is_main),
                                 ProcessText(process), std::move(taken.profile));
      (is_main ? of_main : outputs_).push_back(std::move(output));
    }
  }
  outputs_.insert(outputs_.begin(), std::make_move_iterator(of_main.begin()),
                  std::make_move_iterator(of_main.end()));
}

Status Outputs::Merge() {
  std::deque<Output> all;
  for (const auto& [kind, plain_name] : plain_names_) {
    std::vector<const Profile*> profiles;
    for (const Output& output : outputs_) {
      if (output.kind != kind) continue;
      // An empty profile has nothing to add, but the command's own says which program this is about.
      if (profiles.empty() || output.profile.sample_size() > 0) profiles.push_back(&output.profile);
    }
    if (profiles.empty()) continue;
    Result<Profile> merged = MergeProfiles(profiles);
    if (!merged) return merged.error();
    const std::string whose =
        std::to_string(profiles.size()) + (profiles.size() == 1 ? " process" : " processes");
    all.push_back(MakeOutput(kind, plain_name, whose, std::move(*merged)));
  }
  for (const Output& output : outputs_) {
    if (output.self_written) unlink(output.file.c_str());
  }
  outputs_ = std::move(all);
  return Done{};
}

}  // namespace profagent
