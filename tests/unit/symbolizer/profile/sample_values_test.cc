#include "symbolizer/profile/sample_values.h"

#include <gtest/gtest.h>

#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

TEST(SampleValues, AreFoundByTheNameOfTheirType) {
  ProfileBuilder builder;
  builder.Type("inuse_objects", "count").Type("inuse_space", "bytes");
  const uint64_t location = builder.Location(0, 0x10);
  builder.Sample({location}, {1, 10}).Sample({location}, {2, 500});
  EXPECT_EQ(IndexOfValue(builder.profile(), "inuse_space"), 1);
  EXPECT_EQ(IndexOfValue(builder.profile(), "inuse"), -1);
  EXPECT_EQ(SumOfValues(builder.profile(), "inuse_space"), 510);
  EXPECT_EQ(SumOfValues(builder.profile(), "inuse_objects"), 3);
  EXPECT_EQ(SumOfValues(builder.profile(), "cpu"), 0);
}

}  // namespace
}  // namespace profagent
