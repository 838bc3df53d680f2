#include "agent/base/profile_names.h"

#include <gtest/gtest.h>

#include <string>

namespace profagent {
namespace {

std::string Path(std::string_view pattern, bool first, WrittenAt when = WrittenAt::kEnd) {
  return std::string(ProfilePath(pattern, {.program = "app", .pid = 42, .first = first}, when, 3).view());
}

TEST(ProfileNames, GivesTheFirstProcessThePlainName) { EXPECT_EQ(Path("cpu.prof", true), "cpu.prof"); }

// A server that forks workers would end with the profile of whichever worker died last.
TEST(ProfileNames, GivesEveryOtherProcessANameOfItsOwn) {
  EXPECT_EQ(Path("cpu.prof", false), "cpu.prof.app.42");
}

TEST(ProfileNames, ExpandsPidProgramAndDumpNumber) {
  EXPECT_EQ(Path("/tmp/%e-%p-%n.prof", false), "/tmp/app-42-3.prof");
  EXPECT_EQ(Path("100%%.prof", true), "100%.prof");
}

// The file system takes 255 bytes: the profile of a child with such a name could not be written.
TEST(ProfileNames, ShortensAProgramsNameThatLeavesNoRoom) {
  auto path = [](const std::string& program) {
    ProcessName process{.program = program, .pid = 42, .first = false};
    return std::string(ProfilePath("cpu.prof", process, WrittenAt::kEnd, 3).view());
  };
  EXPECT_EQ(path(std::string(200, 'x')), "cpu.prof." + std::string(200, 'x') + ".42");
  EXPECT_EQ(path(std::string(255, 'x')), "cpu.prof." + std::string(200, 'x') + ".42");
  EXPECT_EQ(path(std::string(199, 'x') + "\u00e9y"), "cpu.prof." + std::string(199, 'x') + ".42");
}

TEST(ProfileNames, LeavesUnknownAndUnfinishedEscapesAlone) {
  EXPECT_EQ(Path("%x%", true), "%x%");
  EXPECT_EQ(Path("%", true), "%");
}

TEST(ProfileNames, AddsThePidToANameThatHasOnlyTheProgram) {
  EXPECT_EQ(Path("%e.prof", false), "app.prof.app.42");
}

// h.%n: the profile at the end overwrote the first dump, whose number was 1 too.
TEST(ProfileNames, KnowsWhetherANameHasTheNumberInIt) {
  for (const char* pattern : {"h.%n", "%n", "%p.%n.prof", "%%%n"})
    EXPECT_TRUE(NamesTheDump(pattern)) << pattern;
  for (const char* pattern : {"h.prof", "%%n", "%", "n%", ""}) EXPECT_FALSE(NamesTheDump(pattern)) << pattern;
}

TEST(ProfileNames, NumbersWhatNoRuleMakesUnique) {
  PathText path;
  path.Add("x.app.42");
  EXPECT_EQ(NumberedPath(path, 1).view(), "x.app.42");
  EXPECT_EQ(NumberedPath(path, 2).view(), "x.app.42.2");
  EXPECT_TRUE(NumberedPath({}, 2).empty());
  PathText longest;
  longest.Add(std::string(4094, 'x'));
  EXPECT_EQ(NumberedPath(longest, 1).view().size(), 4094u);
  EXPECT_TRUE(NumberedPath(longest, 2).empty());
}

// `sh -c 'exec app'`: the shell must not take the name that app will want, nor app's %p name.
TEST(ProfileNames, LeavesThePlainNameToTheProgramThatItBecomes) {
  EXPECT_EQ(Path("cpu.prof", true, WrittenAt::kExec), "cpu.prof.app.42");
  EXPECT_EQ(Path("cpu.%p", true, WrittenAt::kExec), "cpu.42.app.42");
}

TEST(ProfileNames, RefusesANameThatDoesNotFit) {
  EXPECT_EQ(Path(std::string(4096, 'x'), true), "");
  EXPECT_EQ(Path(std::string(4094, 'x'), true).size(), 4094u);
  EXPECT_EQ(Path(std::string(4090, 'x'), false), "");
}

// A file that tools no longer take for a profile, or one in a directory that is not there.
TEST(ProfileNames, KnowsWhereTheExtensionBegins) {
  EXPECT_EQ(ExtensionOf("a.b/x.y.prof"), ".prof");
  EXPECT_EQ(ExtensionOf("x.pb.gz"), ".pb.gz");
  for (const char* path : {"x", "a.b/x", "a/.x", ""}) EXPECT_EQ(ExtensionOf(path), "") << path;
}

}  // namespace
}  // namespace profagent
