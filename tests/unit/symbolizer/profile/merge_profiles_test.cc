#include "symbolizer/profile/merge_profiles.h"

#include <gtest/gtest.h>

#include "symbolizer/profile/read_profile.h"
#include "tests/golden/golden_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

Result<Profile> Merge(std::initializer_list<const Profile*> profiles) {
  return MergeProfiles({profiles.begin(), profiles.size()});
}

const std::string& Text(const Profile& profile, int64_t index) {
  return profile.string_table(static_cast<int>(index));
}

ProfileBuilder Cpu(uint64_t start, std::string_view build_id = "id") {
  ProfileBuilder b;
  b.Type("samples", "count").Type("cpu", "nanoseconds").Period("cpu", "nanoseconds", 10);
  const uint64_t m = b.Mapping(start, start + 0x1000, 0, "app", build_id);
  b.Sample({b.Location(m, start + 1, {{"f", "f.c", 1}}), b.Location(m, start + 2, {{"main", "f.c", 9}})},
           {1, 10});
  return b;
}

// The system puts programs at another address in every run; samples of one place must still meet.
TEST(MergeProfiles, AddsUpRunsThatLayAtDifferentAddresses) {
  ProfileBuilder one = Cpu(0x400000), other = Cpu(0x7f0000000000);
  const Result<Profile> merged = Merge({&one.profile(), &other.profile()});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->mapping_size(), 1);
  EXPECT_EQ(merged->location_size(), 2);
  ASSERT_EQ(merged->sample_size(), 1);
  EXPECT_EQ(merged->sample(0).value(1), 20);
  EXPECT_EQ(merged->location(0).address(), 0x400001u);
}

TEST(MergeProfiles, KeepsBuildsOfAProgramApart) {
  ProfileBuilder one = Cpu(0x400000, "one"), other = Cpu(0x400000, "other");
  const Result<Profile> merged = Merge({&one.profile(), &other.profile()});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->mapping_size(), 2);
  EXPECT_EQ(merged->sample_size(), 2);
}

// Sizes differ by what the last page holds.
TEST(MergeProfiles, RoundsTheSizeOfMappings) {
  ProfileBuilder one = Cpu(0x400000), other = Cpu(0x400000);
  other.profile().mutable_mapping(0)->set_memory_limit(0x400ff0);
  EXPECT_EQ(Merge({&one.profile(), &other.profile()})->mapping_size(), 1);
  other.profile().mutable_mapping(0)->set_memory_limit(0x401001);
  EXPECT_EQ(Merge({&one.profile(), &other.profile()})->mapping_size(), 2);
}

TEST(MergeProfiles, SamplesWithOtherLabelsAreOthers) {
  ProfileBuilder b;
  b.Type("n", "count");
  const uint64_t f = b.Location(0, 1, {{"f", "", 0}});
  b.Sample({f}, {1}, {{"b", "2", 0, ""}, {"a", "1", 0, ""}});
  b.Sample({f}, {2}, {{"a", "1", 0, ""}, {"b", "2", 0, ""}});                    // the same in another order
  b.Sample({f}, {4}, {{"a", "1", 0, ""}, {"b", "2", 0, ""}, {"c", "", 0, ""}});  // c says nothing
  b.Sample({f}, {8}, {{"a", "1", 0, ""}});
  b.Sample({f}, {16}, {{"a", "", 1, ""}});
  b.Sample({f}, {32}, {{"a", "", 1, "bytes"}});
  b.Sample({f}, {64}, {});
  const Profile merged = Compact(b.profile());
  ASSERT_EQ(merged.sample_size(), 5);
  EXPECT_EQ(merged.sample(0).value(0), 7);
  EXPECT_EQ(Text(merged, merged.sample(0).label(0).key()), "a");
}

TEST(MergeProfiles, BringsUnitsToTheFinest) {
  ProfileBuilder fine = Cpu(0x400000), coarse;
  coarse.Type("samples", "count").Type("cpu", "milliseconds").Period("cpu", "us", 1);
  coarse.Sample({coarse.Location(0, 5, {{"g", "", 0}})}, {1, 3});
  const Result<Profile> merged = Merge({&coarse.profile(), &fine.profile()});
  ASSERT_TRUE(merged) << merged.error().text.c_str();
  EXPECT_EQ(Text(*merged, merged->sample_type(1).unit()), "nanoseconds");
  EXPECT_EQ(merged->sample(0).value(1), 3'000'000);
  EXPECT_EQ(merged->sample(1).value(1), 10);
  EXPECT_EQ(merged->period(), 1000);
}

TEST(MergeProfiles, RefusesWhatCannotBeAddedUp) {
  ProfileBuilder cpu = Cpu(0x400000), heap, short_types;
  heap.Type("samples", "count").Type("space", "bytes").Period("cpu", "nanoseconds", 10);
  short_types.Type("cpu", "nanoseconds").Period("cpu", "nanoseconds", 10);
  const Result<Profile> types = Merge({&cpu.profile(), &heap.profile()});
  ASSERT_FALSE(types);
  EXPECT_EQ(types.error().text.view(), "sample types: incompatible types: cpu/nanoseconds and space/bytes");
  const Result<Profile> count = Merge({&cpu.profile(), &short_types.profile()});
  ASSERT_FALSE(count);
  EXPECT_EQ(count.error().text.view(), "inconsistent samples type count: 2 != 1");
  heap.Period("space", "bytes", 1);
  EXPECT_FALSE(Merge({&cpu.profile(), &heap.profile()}));
  EXPECT_FALSE(MergeProfiles({}));
}

TEST(MergeProfiles, CombinesHeaders) {
  ProfileBuilder one = Cpu(0x400000), other = Cpu(0x400000);
  one.Comment("a").Comment("b");
  other.Comment("b").Comment("c").DefaultType("samples");
  one.profile().set_time_nanos(20);
  other.profile().set_time_nanos(10);
  one.profile().set_duration_nanos(3);
  other.profile().set_duration_nanos(4);
  other.profile().set_period(99);
  const Result<Profile> merged = Merge({&one.profile(), &other.profile()});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->time_nanos(), 10);
  EXPECT_EQ(merged->duration_nanos(), 7);
  EXPECT_EQ(merged->period(), 99);
  EXPECT_EQ(merged->comment_size(), 3);
  EXPECT_EQ(Text(*merged, merged->default_sample_type()), "samples");
}

// What a base takes away may leave nothing; an empty sample would print as a line of zeros.
TEST(MergeProfiles, DropsWhatCancelsOut) {
  ProfileBuilder one = Cpu(0x400000), negative = Cpu(0x400000);
  for (auto& value : *negative.profile().mutable_sample(0)->mutable_value()) value = -value;
  const Result<Profile> merged = Merge({&one.profile(), &negative.profile()});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->sample_size(), 0);
  EXPECT_EQ(merged->location_size(), 0);
  EXPECT_EQ(merged->mapping_size(), 1) << "mapping[0] is the program, whatever the samples say";
}

TEST(Compact, IsIdempotentAndValid) {
  for (const GoldenProfile& golden : GoldenProfiles()) {
    Profile once = Compact(golden.profile);
    const Status valid = ValidateProfile(once);
    EXPECT_TRUE(valid) << golden.name << ": " << valid.error().text.c_str();
    EXPECT_EQ(Compact(once).SerializeAsString(), once.SerializeAsString()) << golden.name;
    for (int i = 0; i < once.location_size(); ++i)
      ASSERT_EQ(once.location(i).id(), static_cast<uint64_t>(i) + 1);
  }
}

TEST(Compact, KeepsInlinedFramesApartAndColumns) {
  ProfileBuilder b = Cpu(0x400000);
  auto* location = b.profile().mutable_location(0);
  location->mutable_line(0)->set_column(5);
  *location->add_line() = location->line(0);
  const Profile compact = Compact(b.profile());
  EXPECT_EQ(compact.location(0).line_size(), 2);
  EXPECT_EQ(compact.location(0).line(0).column(), 5);
}

}  // namespace
}  // namespace profagent
