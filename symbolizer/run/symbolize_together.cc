#include "symbolizer/run/symbolize_together.h"

#include <string>
#include <unordered_map>

#include "symbolizer/profile/merge_profiles.h"

namespace profagent {
namespace {

using perftools::profiles::Function;
using perftools::profiles::Line;
using perftools::profiles::Location;
using perftools::profiles::Mapping;

class StringTable {
 public:
  explicit StringTable(Profile* profile) : profile_(profile) {
    for (int i = 0; i < profile->string_table_size(); ++i) index_.try_emplace(profile->string_table(i), i);
    if (profile->string_table_size() == 0) Intern("");
  }
  int64_t Intern(const std::string& text) {
    auto [entry, is_new] = index_.try_emplace(text, profile_->string_table_size());
    if (is_new) profile_->add_string_table(text);
    return entry->second;
  }

 private:
  Profile* profile_;
  std::unordered_map<std::string, int64_t> index_;
};

const std::string& Text(const Profile& profile, int64_t index) {
  return profile.string_table(static_cast<int>(index));
}

// A function of one profile in the tables of another.
class FunctionCopier {
 public:
  FunctionCopier(const Profile& from, Profile* to, StringTable* to_strings)
      : from_(from), to_(to), strings_(to_strings) {}

  uint64_t Copy(uint64_t id) {
    auto [entry, is_new] = copied_.try_emplace(id, 0);
    if (!is_new) return entry->second;
    const Function& function =
        from_.function(static_cast<int>(id) - 1);  // the normal form's ids are positions
    Function* copy = to_->add_function();
    copy->set_id(static_cast<uint64_t>(to_->function_size()));
    copy->set_name(strings_->Intern(Text(from_, function.name())));
    copy->set_system_name(strings_->Intern(Text(from_, function.system_name())));
    copy->set_filename(strings_->Intern(Text(from_, function.filename())));
    copy->set_start_line(function.start_line());
    return entry->second = copy->id();
  }
  void CopyLines(const Location& from, Location* to) {
    to->clear_line();
    for (const Line& line : from.line()) {
      Line* copy = to->add_line();
      *copy = line;
      copy->set_function_id(Copy(line.function_id()));
    }
  }

 private:
  const Profile& from_;
  Profile* to_;
  StringTable* strings_;
  std::unordered_map<uint64_t, uint64_t> copied_;
};

// Mappings, locations and functions of all profiles, one after the other; no samples.
Profile Bundle(std::span<Profile* const> profiles) {
  Profile bundle;
  StringTable strings(&bundle);
  for (const Profile* profile : profiles) {
    const auto first_mapping = static_cast<uint64_t>(bundle.mapping_size());
    FunctionCopier functions(*profile, &bundle, &strings);
    for (const Mapping& mapping : profile->mapping()) {
      Mapping* copy = bundle.add_mapping();
      *copy = mapping;
      copy->set_id(first_mapping + mapping.id());
      copy->set_filename(strings.Intern(Text(*profile, mapping.filename())));
      copy->set_build_id(strings.Intern(Text(*profile, mapping.build_id())));
    }
    for (const Location& location : profile->location()) {
      Location* copy = bundle.add_location();
      *copy = location;
      copy->set_id(static_cast<uint64_t>(bundle.location_size()));
      if (location.mapping_id() != 0) copy->set_mapping_id(first_mapping + location.mapping_id());
      functions.CopyLines(location, copy);
    }
  }
  return bundle;
}

}  // namespace

Status SymbolizeTogether(std::span<Profile* const> profiles, const SymbolizeOptions& options,
                         SymbolizeReport* report) {
  Profile bundle = Bundle(profiles);
  if (Status status = Symbolize(&bundle, options, report); !status) return status;

  // Back by position: symbolizing changes what a location says, never how many there are.
  int next_mapping = 0;
  int next_location = 0;
  for (Profile* profile : profiles) {
    profile->clear_function();
    StringTable strings(profile);
    FunctionCopier functions(bundle, profile, &strings);
    for (Mapping& mapping : *profile->mutable_mapping()) {
      const Mapping& known = bundle.mapping(next_mapping++);
      mapping.set_has_functions(known.has_functions());
      mapping.set_has_filenames(known.has_filenames());
      mapping.set_has_line_numbers(known.has_line_numbers());
      mapping.set_has_inline_frames(known.has_inline_frames());
    }
    for (Location& location : *profile->mutable_location()) {
      functions.CopyLines(bundle.location(next_location++), &location);
    }
    HideInlinedAllocators(profile);
    if (options.demangle) DemangleLocks(profile);
    *profile = Compact(*profile);  // names that nothing uses any more go
  }
  return Done{};
}

}  // namespace profagent
