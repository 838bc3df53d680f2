// A profile in memory: the message of proto/profile.proto, and what every reader of one may rely on.
//
// What ReadProfile and MergeProfiles return holds these (ValidateProfile checks them, so that no later code
// has to):
//   - string_table[0] is "", and every string index is inside the table;
//   - every sample has as many values as there are sample types; every location it names exists;
//   - ids of mappings, functions and locations are not 0 and not used twice; every line names an existing
//   function;
//   - Location.mapping_id is 0 (unknown) or names an existing mapping.
// MergeProfiles (and so Compact) also leaves a profile in its normal form: ids are 1, 2, 3... in the order of
// the tables, no string is twice in the string table, labels are sorted by key (string labels first), and
// nothing is kept that no sample uses, except mapping[0], which is the program.
//
// Context: `offline`.
#pragma once

#include <string_view>

#include "agent/base/result.h"
#include "proto/profile.pb.h"

namespace profagent {

using Profile = perftools::profiles::Profile;

// Checks what is written above; the messages are pprof's. Sets mapping ids that name nothing to 0, as pprof
// does.
Status ValidateProfile(Profile& profile);

// "PATH: reason". A long path loses its front, never the reason its end.
Error ErrorAbout(std::string_view path, std::string_view reason, int code = 0);

}  // namespace profagent
