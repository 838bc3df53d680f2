// Profiles that are hard to print right. The golden test prints each in many ways, with profagent and with go
// tool pprof.
#pragma once

#include <string>
#include <vector>

#include "proto/profile.pb.h"

namespace profagent {

struct GoldenProfile {
  std::string name;
  perftools::profiles::Profile profile;
};

// Always the same ones, bit for bit.
std::vector<GoldenProfile> GoldenProfiles();

}  // namespace profagent
