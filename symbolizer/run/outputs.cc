#include "symbolizer/run/outputs.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "agent/encode/profile_kind.h"
#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"
#include "symbolizer/profile/sample_values.h"

namespace profagent {
namespace {

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// In the comments of all that we write: what has it was not written by a process itself.
constexpr std::string_view kOurs = "# written by profagent run";

bool IsOurs(const Profile& profile) {
  return std::ranges::any_of(profile.comment(), [&](int64_t comment) {
    return profile.string_table(static_cast<int>(comment)) == kOurs;
  });
}

Output MakeOutput(ProfileKind kind, std::string file, Profile profile) {
  Output output;
  output.kind = kind;
  output.file = std::move(file);
  output.weight = SumOfValues(profile, RunKindOf(kind).value);
  if (!IsOurs(profile)) {
    profile.add_comment(profile.string_table_size());
    profile.add_string_table(std::string(kOurs));
  }
  output.profile = std::move(profile);
  return output;
}

// A profile counts whole blocks, and a sampled block may stand for 1.9: in the sum over many processes half of them were missing.
// Their bytes are cut, too, but by less than one a process.
void CountBlocksByTheirBytes(ProfileKind kind, Profile* merged) {
  const std::string_view label = Describe(kind).size_label;
  if (label.empty()) return;
  for (auto& sample : *merged->mutable_sample()) {
    const auto size = std::ranges::find_if(sample.label(), [&](const auto& each) {
      return merged->string_table(static_cast<int>(each.key())) == label;
    });
    if (size == sample.label().end() || size->num() <= 0) continue;
    for (int i = 0; i + 1 < sample.value_size(); i += 2)
      sample.set_value(i, sample.value(i + 1) / size->num());
  }
}

ImageName NameOf(const ProcessProfiles& image) {
  return {image.program, image.pid, image.serial, image.became_another};
}

// nullptr: it was not forked from a program of the same name. What an exec began has no code of its parent.
const ProcessProfiles* ForkedFrom(const Harvest& harvest, const ProcessProfiles& image) {
  const auto began_before = [&](uint32_t pid) {  // the last one
    const ProcessProfiles* found = nullptr;
    for (auto other = std::ranges::lower_bound(harvest.processes, pid, {}, &ProcessProfiles::pid);
         other != harvest.processes.end() && other->pid == pid; ++other) {
      if (other->began_nanos < image.began_nanos) found = &*other;
    }
    return found;
  };
  if (began_before(image.pid) != nullptr) return nullptr;
  const ProcessProfiles* parent = began_before(image.parent_pid);
  return parent != nullptr && parent->program == image.program ? parent : nullptr;
}

std::vector<CodeOrigin> OriginsOf(const Harvest& harvest, const ProcessProfiles& image) {
  std::vector<CodeOrigin> origins;
  for (const ProcessProfiles* at = &image; at != nullptr; at = ForkedFrom(harvest, *at))
    origins.push_back({static_cast<pid_t>(at->pid), at->began_nanos});
  return origins;
}

std::string ImageText(const ProcessProfiles& image) {
  if (!image.became_another) return ProcessText(image);
  return image.program + " (pid " + std::to_string(image.pid) + ", before its exec)";
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
  if (IsOurs(*profile)) return false;  // another run's, which ended in this directory meanwhile
  Output output = MakeOutput(written.kind, written.file, Compact(*profile));
  output.process = output.image = written.file;
  output.whose = "from " + LastComponent(written.file);
  output.self_written = output.written = true;
  outputs_.push_back(std::move(output));
  return true;
}

void Outputs::AddHarvest(Harvest& harvest, pid_t main_pid, OutputNames& names) {
  const ProcessProfiles* main_image = MainImage(harvest, main_pid);
  const ImageName main_name =
      main_image != nullptr ? NameOf(*main_image) : ImageName{"unknown", static_cast<uint32_t>(main_pid)};
  std::set<std::string> self_written;
  std::set<ProfileKind> moved;
  for (const auto& [kind, pattern] : names.patterns()) {
    std::string& plain = plain_names_[kind];
    plain = names.Plain(kind, main_name.program, main_name.pid);
    if (!names.IsTaken(plain)) continue;
    if (std::ranges::find(outputs_, plain, &Output::file) != outputs_.end()) {
      self_written.insert(plain);
    } else {  // somebody else's
      plain = names.Next(kind, main_name, false);
      moved.insert(kind);
    }
  }
  // Its own first: so the plain names are its, and the others are called otherwise.
  std::vector<ProcessProfiles*> images;
  for (ProcessProfiles& image : harvest.processes)
    images.insert(&image == main_image ? images.begin() : images.end(), &image);
  std::deque<Output> of_main;
  for (ProcessProfiles* image : images) {
    const ImageName name = NameOf(*image);
    for (KindProfile& taken : image->profiles) {
      const bool is_main = image == main_image && !self_written.contains(plain_names_[taken.kind]);
      const bool wanted_empty = taken.kind == ProfileKind::kCpu || wanted_.Of(taken.kind).asked;
      if (taken.profile.sample_size() == 0 && !(is_main && wanted_empty)) continue;
      std::string file = is_main && moved.contains(taken.kind) ? plain_names_[taken.kind]
                                                               : names.Next(taken.kind, name, is_main);
      Output output = MakeOutput(taken.kind, std::move(file), std::move(taken.profile));
      output.process = std::to_string(image->pid);
      output.image = output.process + "." + std::to_string(image->serial);
      output.whose = ImageText(*image);
      output.origins = OriginsOf(harvest, *image);
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
    std::set<std::string> processes;
    for (const Output& output : outputs_) {
      if (output.kind != kind) continue;
      // An empty profile has nothing to add, but the command's own says which program this is about.
      if (!profiles.empty() && output.profile.sample_size() == 0) continue;
      profiles.push_back(&output.profile);
      processes.insert(output.process);
    }
    if (profiles.empty()) continue;
    Result<Profile> merged = MergeProfiles(profiles);
    if (!merged) return merged.error();
    CountBlocksByTheirBytes(kind, &*merged);
    Output output = MakeOutput(kind, plain_name, std::move(*merged));
    output.process = output.image = "all";
    output.images = profiles.size();
    output.whose = std::to_string(processes.size()) + (processes.size() == 1 ? " process" : " processes");
    if (output.images > processes.size())
      output.whose.insert(0, std::to_string(output.images) + " programs of ");
    all.push_back(std::move(output));
  }
  for (const Output& output : outputs_) {
    if (output.self_written) unlink(output.file.c_str());
  }
  outputs_ = std::move(all);
  return Done{};
}

}  // namespace profagent
