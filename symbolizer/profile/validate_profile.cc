#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "symbolizer/profile/profile.h"

namespace profagent {
namespace {

// The ids of one table. They are nearly always 1, 2, 3..., so a bitmap holds them; others go to a set.
class IdSet {
 public:
  explicit IdSet(int expected) : small_(static_cast<size_t>(expected) + 1) {}

  // False if it was there already.
  bool Insert(uint64_t id) {
    if (id >= small_.size()) return large_.insert(id).second;
    if (small_[id]) return false;
    return small_[id] = true;
  }
  bool Contains(uint64_t id) const { return id < small_.size() ? small_[id] : large_.count(id) > 0; }

 private:
  std::vector<bool> small_;
  std::unordered_set<uint64_t> large_;
};

// pprof calls a profile with such an index "unrecognized": to it, the bytes were not a profile after all.
bool StringsAreInside(const Profile& profile) {
  const auto count = static_cast<uint64_t>(profile.string_table_size());
  const auto inside = [count](int64_t index) { return static_cast<uint64_t>(index) < count; };
  const auto types_inside = [&](const auto& type) { return inside(type.type()) && inside(type.unit()); };
  if (count == 0 || !profile.string_table(0).empty()) return false;
  return inside(profile.drop_frames()) && inside(profile.keep_frames()) &&
         inside(profile.default_sample_type()) && inside(profile.doc_url()) &&
         types_inside(profile.period_type()) && std::ranges::all_of(profile.sample_type(), types_inside) &&
         std::ranges::all_of(profile.comment(), inside) &&
         std::ranges::all_of(profile.mapping(),
                             [&](const auto& m) { return inside(m.filename()) && inside(m.build_id()); }) &&
         std::ranges::all_of(profile.function(),
                             [&](const auto& f) {
                               return inside(f.name()) && inside(f.system_name()) && inside(f.filename());
                             }) &&
         std::ranges::all_of(profile.sample(), [&](const auto& sample) {
           return std::ranges::all_of(sample.label(), [&](const auto& label) {
             return inside(label.key()) && inside(label.str()) && inside(label.num_unit());
           });
         });
}

}  // namespace

Status ValidateProfile(Profile& profile) {
  if (!StringsAreInside(profile)) return Error::Of("parsing profile: unrecognized profile format");

  const auto malformed = [](const auto&... parts) { return Error::Of("malformed profile: ", parts...); };
  const int types = profile.sample_type_size();
  if (types == 0 && profile.sample_size() != 0) return malformed("missing sample type information");

  IdSet locations(profile.location_size());
  for (const auto& location : profile.location()) locations.Insert(location.id());
  for (const auto& sample : profile.sample()) {
    if (sample.value_size() != types)
      return malformed("mismatch: sample has ", sample.value_size(), " values vs. ", types, " types");
    for (const uint64_t id : sample.location_id())
      if (!locations.Contains(id)) return malformed("sample has nil location");
  }

  IdSet mappings(profile.mapping_size());
  for (const auto& mapping : profile.mapping()) {
    if (mapping.id() == 0) return malformed("found mapping with reserved ID=0");
    if (!mappings.Insert(mapping.id())) return malformed("multiple mappings with same id: ", mapping.id());
  }
  IdSet functions(profile.function_size());
  for (const auto& function : profile.function()) {
    if (function.id() == 0) return malformed("found function with reserved ID=0");
    if (!functions.Insert(function.id()))
      return malformed("multiple functions with same id: ", function.id());
  }
  IdSet seen(profile.location_size());
  for (auto& location : *profile.mutable_location()) {
    if (location.id() == 0) return malformed("found location with reserved id=0");
    if (!seen.Insert(location.id())) return malformed("multiple locations with same id: ", location.id());
    if (!mappings.Contains(location.mapping_id())) location.set_mapping_id(0);
    for (const auto& line : location.line())
      if (!functions.Contains(line.function_id()))
        return malformed("location id: ", location.id(), " has a line with nil function");
  }
  return Done{};
}

Error ErrorAbout(std::string_view path, std::string_view reason, int code) {
  // Error keeps 240 bytes. What went wrong matters more than the directories in front of a name.
  constexpr size_t kRoomForPath = 120;
  Error error;
  if (path.size() > kRoomForPath)
    error.text.Add("...", path.substr(path.size() - kRoomForPath));
  else
    error.text.Add(path);
  error.text.Add(": ", reason);
  error.code = code;
  return error;
}

}  // namespace profagent
