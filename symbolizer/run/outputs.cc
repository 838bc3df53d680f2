#include "symbolizer/run/outputs.h"

#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"

namespace profagent {
namespace {

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The last value of a CPU profile's samples is time.
uint64_t CpuNanosOf(const Profile& profile) {
  int64_t sum = 0;
  for (const auto& sample : profile.sample()) sum += sample.value(sample.value_size() - 1);
  return sum > 0 ? static_cast<uint64_t>(sum) : 0;
}

}  // namespace

std::string ProcessText(const ProcessProfile& process) {
  return process.program + " (pid " + std::to_string(process.pid) + ")";
}

const ProcessProfile* MainImage(const Harvest& harvest, pid_t main_pid) {
  const ProcessProfile* last = nullptr;
  for (const ProcessProfile& process : harvest.processes) {
    if (process.pid == static_cast<uint32_t>(main_pid)) last = &process;
  }
  return last;
}

bool Outputs::AddSelfWritten(const std::string& file) {
  Result<Profile> profile = ReadProfile(file);
  if (!profile) return false;
  const uint64_t cpu_nanos = CpuNanosOf(*profile);
  outputs_.push_back({file, "from " + LastComponent(file), cpu_nanos, Compact(*profile), true});
  return true;
}

void Outputs::AddHarvest(Harvest& harvest, pid_t main_pid, OutputNames& names) {
  const ProcessProfile* main_image = MainImage(harvest, main_pid);
  plain_name_ =
      names.Plain(main_image != nullptr ? main_image->program : "unknown", static_cast<uint32_t>(main_pid));
  const bool main_wrote_itself = names.IsTaken(plain_name_);
  for (ProcessProfile& process : harvest.processes) {
    const bool is_main = &process == main_image && !main_wrote_itself;
    if (!is_main && !process.has_samples()) continue;
    Output output{names.Next(process.program, process.pid, is_main), ProcessText(process), process.cpu_nanos,
                  std::move(process.profile), false};
    if (is_main) {
      outputs_.push_front(std::move(output));
    } else {
      outputs_.push_back(std::move(output));
    }
  }
}

Status Outputs::Merge() {
  std::vector<const Profile*> profiles;
  uint64_t cpu_nanos = 0;
  for (const Output& output : outputs_) {
    // An empty profile has nothing to add, but the command's own says which program this is about.
    if (!profiles.empty() && output.profile.sample_size() == 0) continue;
    profiles.push_back(&output.profile);
    cpu_nanos += output.cpu_nanos;
  }
  if (profiles.empty()) return Done{};
  Result<Profile> merged = MergeProfiles(profiles);
  if (!merged) return merged.error();
  for (const Output& output : outputs_) {
    if (output.self_written) unlink(output.file.c_str());
  }
  Output all{plain_name_,
             std::to_string(profiles.size()) + (profiles.size() == 1 ? " process" : " processes"), cpu_nanos,
             std::move(*merged), false};
  outputs_.clear();
  outputs_.push_back(std::move(all));
  return Done{};
}

}  // namespace profagent
