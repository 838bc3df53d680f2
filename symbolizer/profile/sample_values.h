// Which value of a sample is which.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <string_view>

#include "symbolizer/profile/profile.h"

namespace profagent {

// Its place among the values of a sample; -1: the profile has no such sample type.
int IndexOfValue(const Profile& profile, std::string_view sample_type);

// Over all samples. 0 when there is no such sample type.
int64_t SumOfValues(const Profile& profile, std::string_view sample_type);

}  // namespace profagent
