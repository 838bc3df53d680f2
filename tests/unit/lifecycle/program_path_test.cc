#include "agent/lifecycle/program_path.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/scratch_directory.h"

namespace profagent {
namespace {

constexpr char kNoLink[] = "/nonexistent/exe";  // no /proc

std::string Find(const ProgramClues& clues) {
  char memory[4096];
  return std::string(FindProgramPath(clues, memory));
}
std::string Here(const std::string& name) { return (std::filesystem::current_path() / name).string(); }

TEST(ProgramPath, IsWhatTheKernelSays) {
  std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(Find(ProgramClues::OfThisProcess("another name")), self);
}

// `ld.so ./app`: the kernel runs the loader.
TEST(ProgramPath, IsWhatTheLoaderWasStartedWith) {
  ProgramClues clues{
      .loader_was_started = true, .loaded_as = "/opt/app", .executed_as = "/lib64/ld-linux-x86-64.so.2"};
  EXPECT_EQ(Find(clues), "/opt/app");
  clues.loaded_as = "././dir/app";
  EXPECT_EQ(Find(clues), Here("dir/app"));
}

TEST(ProgramPath, IsWhatWasExecutedWhereThereIsNoProc) {
  EXPECT_EQ(Find({.link = kNoLink, .executed_as = "/opt/app", .argument = "x"}), "/opt/app");
  EXPECT_EQ(Find({.link = kNoLink, .executed_as = "./app", .argument = "x"}), Here("app"));
  EXPECT_EQ(Find({.link = kNoLink, .executed_as = "app", .argument = "x"}), Here("app"));
}

// crun executes a mount of its own file that is in no directory (open_tree, execveat).
TEST(ProgramPath, IsNotTheRootOfAMountOfTheFile) {
  testing::ScratchDirectory directory;
  std::string link = directory.File("link");
  std::filesystem::create_symlink("/", link);
  EXPECT_EQ(Find({.link = link.c_str(), .executed_as = "/dev/fd/3", .argument = "/opt/app"}), "/opt/app");
  EXPECT_EQ(Find({.link = link.c_str(), .executed_as = "/dev/fd/3", .argument = "app"}), "app");
}

// The kernel was given a script, or a descriptor by fexecve: argv[0] is nearer to the program.
TEST(ProgramPath, IsNoScriptAndNoDescriptor) {
  testing::ScratchDirectory directory;
  std::string script = directory.File("script");
  std::ofstream(script) << "#!/bin/true\n";
  EXPECT_EQ(Find({.link = kNoLink, .executed_as = script.c_str(), .argument = "/bin/true"}), "/bin/true");
  for (const char* descriptor : {"/dev/fd/3", "/proc/self/fd/3"}) {
    EXPECT_EQ(Find({.link = kNoLink, .executed_as = descriptor, .argument = "bin/app"}), Here("bin/app"));
    EXPECT_EQ(Find({.link = kNoLink, .executed_as = descriptor, .argument = "app"}), "app");
    EXPECT_EQ(Find({.link = kNoLink, .executed_as = descriptor}), descriptor) << "better than nothing";
  }
  EXPECT_EQ(Find({.link = kNoLink}), "");
}

TEST(ProgramName, IsTheLastComponentAsItWas) {
  EXPECT_EQ(ProgramNameOf("/usr/bin/app"), "app");
  EXPECT_EQ(ProgramNameOf("app"), "app");
  EXPECT_EQ(ProgramNameOf(""), "");
  EXPECT_EQ(ProgramNameOf("/tmp/app (deleted)"), "app");
  EXPECT_EQ(ProgramNameOf("/memfd:app (deleted)"), "memfd:app");
  testing::ScratchDirectory directory;
  std::string odd = directory.File("app (deleted)");
  std::ofstream{odd};
  EXPECT_EQ(ProgramNameOf(odd), "app (deleted)") << "its real name";
}

}  // namespace
}  // namespace profagent
