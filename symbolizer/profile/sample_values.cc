#include "symbolizer/profile/sample_values.h"

#include "symbolizer/profile/measurement.h"

namespace profagent {

int IndexOfValue(const Profile& profile, std::string_view sample_type) {
  for (int i = 0; i < profile.sample_type_size(); ++i) {
    if (profile.string_table(static_cast<int>(profile.sample_type(i).type())) == sample_type) return i;
  }
  return -1;
}

int64_t SumOfValues(const Profile& profile, std::string_view sample_type) {
  const int index = IndexOfValue(profile, sample_type);
  if (index < 0) return 0;
  int64_t sum = 0;
  for (const auto& sample : profile.sample()) sum = WrappingAdd(sum, sample.value(index));
  return sum;
}

}  // namespace profagent
