// Adds profiles up, by pprof's rules.
//
// Profiles of several runs merge in spite of address space randomization: a mapping is the same if its size
// (to 4 KiB), its offset and its build-id (or else its file name) are, and locations are compared relative to
// its start. Two samples are the same if their locations and all their labels are. Units are brought to the
// finest of each sample type, samples whose values are all 0 go, and so does everything that no sample uses.
// Headers: the earliest time, the sum of the durations, the largest period, every comment once.
//
// Context: `offline`.
#pragma once

#include <span>

#include "symbolizer/profile/profile.h"

namespace profagent {

// At least one profile; each as ReadProfile returns it. The result is in the normal form of profile.h.
Result<Profile> MergeProfiles(std::span<const Profile* const> profiles);

// The normal form of one profile; nothing that its samples need is lost.
Profile Compact(const Profile& profile);

}  // namespace profagent
