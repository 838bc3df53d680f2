#include "symbolizer/profile/load_profiles.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "symbolizer/profile/measurement.h"
#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"

namespace profagent {
namespace {

int64_t AddString(Profile& profile, std::string_view text) {
  profile.add_string_table(std::string(text));
  return profile.string_table_size() - 1;
}

// Before profiles are merged, since it decides which mappings are the same.
void OverrideProgram(Profile& profile, const LoadRequest& request) {
  if (profile.mapping_size() == 0) {
    // Reports count on a mapping for every location; old profiles have none.
    profile.add_mapping()->set_id(1);
    for (auto& location : *profile.mutable_location()) location.set_mapping_id(1);
  }
  if (!request.program.empty()) profile.mutable_mapping(0)->set_filename(AddString(profile, request.program));
  if (!request.build_id.empty())
    profile.mutable_mapping(0)->set_build_id(AddString(profile, request.build_id));
}

Result<Profile> LoadAndMerge(const std::vector<std::string>& paths, const LoadRequest& request,
                             std::string_view what, std::vector<std::string>& warnings) {
  std::vector<Profile> profiles;
  for (const std::string& path : paths) {
    Result<Profile> profile = ReadProfile(path);
    if (!profile && paths.size() == 1) return profile.error();
    if (!profile) {
      warnings.emplace_back(profile.error().text.view());
      continue;
    }
    OverrideProgram(*profile, request);
    profiles.push_back(std::move(*profile));
  }
  if (profiles.empty()) {
    for (size_t i = 1; i < warnings.size(); ++i) warnings[0] += "; " + warnings[i];
    return Error::Of("none of the ", paths.size(), " ", what,
                     " profiles can be read: ", std::string_view(warnings[0]));
  }
  if (profiles.size() < paths.size()) {
    warnings.push_back("Fetched " + std::to_string(profiles.size()) + " " + std::string(what) +
                       " profiles out of " + std::to_string(paths.size()));
  }
  std::vector<const Profile*> pointers;
  pointers.reserve(profiles.size());
  for (const Profile& profile : profiles) pointers.push_back(&profile);
  return MergeProfiles(pointers);
}

// In place of what a sample has under that key: a difference that was saved carries this very label.
void SetLabel(Profile& profile, std::string_view key, std::string_view value) {
  const int64_t key_string = AddString(profile, key), value_string = AddString(profile, value);
  const auto replaced = [&](const auto& label) {
    return label.str() != 0 && profile.string_table(static_cast<int>(label.key())) == key;
  };
  for (auto& sample : *profile.mutable_sample()) {
    auto& labels = *sample.mutable_label();
    labels.erase(std::remove_if(labels.begin(), labels.end(), replaced), labels.end());
    auto* label = labels.Add();
    label->set_key(key_string);
    label->set_str(value_string);
  }
}

// One ratio a sample type. Samples of which nothing is left go.
void ScaleValues(Profile& profile, const std::vector<double>& ratios) {
  auto& samples = *profile.mutable_sample();
  const auto scale = [&](auto& sample) {
    bool keep = false;
    for (int i = 0; i < sample.value_size(); ++i) {
      const double ratio = ratios[static_cast<size_t>(i)];
      if (ratio == 1) continue;
      sample.set_value(i, GoInt64(std::round(static_cast<double>(sample.value(i)) * ratio)));
      keep |= sample.value(i) != 0;
    }
    return !keep;
  };
  if (std::ranges::all_of(ratios, [](double ratio) { return ratio == 1; })) return;
  samples.erase(std::remove_if(samples.begin(), samples.end(), scale), samples.end());
}

std::vector<double> Sums(const Profile& profile) {
  std::vector<int64_t> sums(static_cast<size_t>(profile.sample_type_size()));
  for (const auto& sample : profile.sample())
    for (int i = 0; i < sample.value_size(); ++i)
      sums[static_cast<size_t>(i)] = WrappingAdd(sums[static_cast<size_t>(i)], sample.value(i));
  return {sums.begin(), sums.end()};
}

// "cpu/nanoseconds"
std::string TypeText(const Profile& profile, const perftools::profiles::ValueType& type) {
  return profile.string_table(static_cast<int>(type.type())) + "/" +
         profile.string_table(static_cast<int>(type.unit()));
}

Status Normalize(Profile& profile, const Profile& base) {
  // What cannot be added up cannot be compared either, and the message is the same.
  const Profile* const both[] = {&profile, &base};
  if (const auto compatible = MergeProfiles(both); !compatible) return compatible.error();
  // Units that merging would convert are not those of the sums below; pprof refuses them as well.
  const auto incompatible = [](std::string_view what, const std::string& one, const std::string& other) {
    return Error::Of("incompatible ", what, " types ", one, " and ", other);
  };
  const std::string period = TypeText(profile, profile.period_type()),
                    base_period = TypeText(base, base.period_type());
  if (period != base_period) return incompatible("period", period, base_period);
  for (int i = 0; i < profile.sample_type_size(); ++i) {
    const std::string type = TypeText(profile, profile.sample_type(i)),
                      base_type = TypeText(base, base.sample_type(i));
    if (type != base_type) return incompatible("sample", type, base_type);
  }
  std::vector<double> ratios = Sums(base);
  const std::vector<double> own = Sums(profile);
  for (size_t i = 0; i < ratios.size(); ++i) ratios[i] = own[i] == 0 ? 0 : ratios[i] / own[i];
  ScaleValues(profile, ratios);
  return Done{};
}

}  // namespace

Result<LoadedProfile> LoadProfiles(const LoadRequest& request) {
  LoadedProfile loaded;
  Result<Profile> source = LoadAndMerge(request.sources, request, "source", loaded.warnings);
  if (!source) return source.error();
  loaded.profile = std::move(*source);
  if (request.bases.empty()) return loaded;

  Result<Profile> base = LoadAndMerge(request.bases, request, "base", loaded.warnings);
  if (!base) return base.error();
  if (request.diff_base) SetLabel(*base, "pprof::base", "true");
  if (request.normalize) {
    const Status normalized = Normalize(loaded.profile, *base);
    if (!normalized) return normalized.error();
  }
  ScaleValues(*base, std::vector<double>(static_cast<size_t>(base->sample_type_size()), -1.0));
  const Profile* const both[] = {&loaded.profile, &*base};
  Result<Profile> difference = MergeProfiles(both);
  if (!difference) return difference.error();
  loaded.profile = std::move(*difference);
  return loaded;
}

}  // namespace profagent
