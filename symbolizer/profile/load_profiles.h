// From names of files to the one profile that a report is about.
//
// Context: `offline`.
#pragma once

#include <string>
#include <vector>

#include "symbolizer/profile/profile.h"

namespace profagent {

struct LoadRequest {
  std::vector<std::string> sources;  // added up
  std::string program;               // replaces the file name of mapping[0]
  std::string build_id;              // replaces its build-id

  std::vector<std::string> bases;  // taken away
  bool diff_base = false;  // percentages are of the base; its samples carry the label pprof::base=true
  bool normalize = false;  // scale the sources to the base's sum first
};

struct LoadedProfile {
  Profile profile;                    // in the normal form of profile.h
  std::vector<std::string> warnings;  // sources that could not be read, while others could
};

// Fails if no source (or no base, where bases are named) can be read, or if what was read cannot be added up.
Result<LoadedProfile> LoadProfiles(const LoadRequest& request);

}  // namespace profagent
