#include "symbolizer/run/symbolize_together.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <array>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"
#include "tests/golden/agent_profiles.h"

namespace profagent {
namespace {

// A profile of this very process: each address a stack of its own.
Profile ProfileOf(std::initializer_list<void*> addresses, const std::string& comment) {
  Profile profile;
  auto intern = [&](const std::string& text) {
    profile.add_string_table(text);
    return profile.string_table_size() - 1;
  };
  intern("");
  auto* type = profile.add_sample_type();
  type->set_type(intern("samples"));
  type->set_unit(intern("count"));
  profile.add_comment(intern(comment));
  for (void* address : addresses) {
    Dl_info info = {};
    link_map* map = nullptr;
    EXPECT_NE(dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP), 0);
    auto* mapping = profile.add_mapping();
    mapping->set_id(static_cast<uint64_t>(profile.mapping_size()));
    mapping->set_memory_start(reinterpret_cast<uint64_t>(info.dli_fbase));
    mapping->set_memory_limit(mapping->memory_start() + (1 << 28));
    char* path = realpath(info.dli_fname, nullptr);
    mapping->set_filename(intern(path));
    free(path);
    auto* location = profile.add_location();
    location->set_id(static_cast<uint64_t>(profile.location_size()));
    location->set_mapping_id(mapping->id());
    location->set_address(reinterpret_cast<uint64_t>(address) + 1);
    auto* function = profile.add_function();
    function->set_id(static_cast<uint64_t>(profile.function_size()));
    function->set_name(intern("old name"));
    location->add_line()->set_function_id(function->id());
    auto* sample = profile.add_sample();
    sample->add_location_id(location->id());
    sample->add_value(profile.sample_size());
  }
  return Compact(profile);
}

std::string LeafName(const Profile& profile, int64_t value) {
  for (const auto& sample : profile.sample()) {
    if (sample.value(0) != value) continue;
    const auto& location = profile.location(static_cast<int>(sample.location_id(0)) - 1);
    if (location.line_size() == 0) return {};
    const auto& function = profile.function(static_cast<int>(location.line(0).function_id()) - 1);
    return profile.string_table(static_cast<int>(function.name()));
  }
  return "no such sample";
}

// Each profile must get back its own addresses' names, whatever the others hold.
TEST(SymbolizeTogether, GivesEveryProfileItsOwnNames) {
  auto address = [](const char* name) { return dlsym(RTLD_DEFAULT, name); };
  std::array<Profile, 3> profiles = {ProfileOf({address("qsort"), address("fopen")}, "first"),
                                     ProfileOf({}, "second"),
                                     ProfileOf({address("fopen"), address("getenv")}, "third")};
  std::array<Profile*, 3> pointers = {&profiles[0], &profiles[1], &profiles[2]};
  ASSERT_TRUE(SymbolizeTogether(pointers, {}, nullptr));
  EXPECT_NE(LeafName(profiles[0], 1).find("qsort"), std::string::npos);  // with debug information: __GI_qsort
  EXPECT_NE(LeafName(profiles[0], 2).find("fopen"), std::string::npos);
  EXPECT_NE(LeafName(profiles[2], 1).find("fopen"), std::string::npos);
  EXPECT_NE(LeafName(profiles[2], 2).find("getenv"), std::string::npos);
  for (Profile& profile : profiles) EXPECT_TRUE(ValidateProfile(profile));
  EXPECT_EQ(profiles[1].sample_size(), 0);
}

TEST(SymbolizeTogether, LeavesNoNameBehindThatNothingUses) {
  Profile profile = ProfileOf({dlsym(RTLD_DEFAULT, "qsort")}, "comment");
  Profile* pointer = &profile;
  ASSERT_TRUE(SymbolizeTogether({&pointer, 1}, {}, nullptr));
  for (const std::string& text : profile.string_table()) EXPECT_NE(text, "old name");
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.comment(0))), "comment");
}

// The leaf of a wait is a name that no file has: location without a mapping, at address 0. Symbolizing must not call it
// "0x0", and merging must not take all such frames for one.
TEST(SymbolizeTogether, LeavesFramesWithoutAnAddressAsTheyAre) {
  std::vector<Profile> profiles;
  for (const AgentProfile& written : AgentProfiles()) {
    if (written.name != "agent_block" && written.name != "agent_mutex") continue;
    Result<Profile> profile = DecodeProfile(written.bytes);
    ASSERT_TRUE(profile) << profile.error().text.c_str();
    profiles.push_back(Compact(*profile));
  }
  ASSERT_EQ(profiles.size(), 2u);
  std::array<Profile*, 2> pointers = {&profiles[0], &profiles[1]};
  ASSERT_TRUE(SymbolizeTogether(pointers, {}, nullptr));
  const std::array<const Profile*, 2> both = {&profiles[0], &profiles[1]};
  Result<Profile> merged = MergeProfiles(both);
  ASSERT_TRUE(merged) << merged.error().text.c_str();
  std::set<std::string> leaves;
  for (const auto& sample : merged->sample()) {
    const auto& leaf = merged->location(static_cast<int>(sample.location_id(0)) - 1);
    EXPECT_EQ(leaf.mapping_id(), 0u);
    EXPECT_EQ(leaf.address(), 0u);
    ASSERT_EQ(leaf.line_size(), 1);
    const auto& function = merged->function(static_cast<int>(leaf.line(0).function_id()) - 1);
    leaves.insert(merged->string_table(static_cast<int>(function.name())));
  }
  EXPECT_EQ(leaves, (std::set<std::string>{"pthread_mutex_lock", "pthread_cond_wait", "pthread_mutex_unlock",
                                           "pthread_rwlock_unlock"}));
}

}  // namespace
}  // namespace profagent
