// `profagent symbolize` and `profagent check` as the user meets them: exit status, words, and what pprof makes of the
// result.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "symbolizer/profile/read_profile.h"
#include "symbolizer/profile/write_profile.h"
#include "tests/unit/symbolizer/symbolize/llvm_oracle.h"
#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent {
namespace {

class CommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = getenv("PROFAGENT");
    if (path == nullptr) GTEST_SKIP() << "PROFAGENT does not name the command (meson test does)";
    profagent_ = path;
  }

  // Builds the sample and writes in.prof, a profile of its marker.
  void MakeProfile() {
    directory_.Write("sample.cc", kSampleSource);
    directory_.Write("main.cc", kSampleMain);
    ASSERT_TRUE(directory_.Run("g++ -g -O2 sample.cc main.cc -o sample"));
    std::vector<uint64_t> addresses = testing::SymbolAddresses(directory_ / "sample", "marker");
    ASSERT_EQ(addresses.size(), 1u);
    ASSERT_TRUE(WriteProfile(testing::ProfileOf(directory_ / "sample", addresses), directory_ / "in.prof"));
  }

  struct Outcome {
    int status;
    std::string output;  // of both streams
  };
  Outcome Run(const std::string& arguments) {
    std::string command =
        "cd '" + directory_.path() + "' && '" + profagent_ + "' " + arguments + " > output 2>&1";
    int status = system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, testing::ReadWhole(directory_ / "output")};
  }

  static constexpr auto& kSampleSource = testing::kSampleSource;
  static constexpr auto& kSampleMain = testing::kSampleMain;
  testing::TemporaryDirectory directory_;
  std::string profagent_;
};

TEST_F(CommandTest, SymbolizesIntoAFileThatPprofReads) {
  MakeProfile();
  Outcome outcome = Run("symbolize in.prof -o out.prof");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(outcome.output,
            "profagent: " + (directory_ / "sample") + ": functions, files, lines and inlined calls\n");
  if (!testing::HasProgram("go")) GTEST_SKIP() << "go is not installed";
  // The binary is gone: what pprof shows is what the file says.
  unlink((directory_ / "sample").c_str());
  ASSERT_TRUE(directory_.Run("PPROF_TMPDIR=. go tool pprof -raw out.prof > raw"));
  std::string raw = testing::ReadWhole(directory_ / "raw");
  EXPECT_NE(raw.find("sample::inner(int) " + (directory_ / "sample.cc") + ":5"), std::string::npos) << raw;
  EXPECT_NE(raw.find("sample::outer(int, char const*) " + (directory_ / "sample.cc") + ":13"),
            std::string::npos)
      << raw;
  EXPECT_NE(raw.find("[FN][FL][LN][IN]"), std::string::npos) << raw;
}

TEST_F(CommandTest, WritesToStandardOutput) {
  MakeProfile();
  EXPECT_EQ(Run("symbolize in.prof -q -o out.prof").output, "");
  Outcome outcome = Run("symbolize in.prof -q -o -");
  EXPECT_EQ(outcome.output, testing::ReadWhole(directory_ / "out.prof"));
  EXPECT_FALSE(outcome.output.empty());
}

TEST_F(CommandTest, MayWriteOverItsInput) {
  MakeProfile();
  EXPECT_EQ(Run("symbolize in.prof -o in.prof --quiet").output, "");
  Result<Profile> profile = ReadProfile(directory_ / "in.prof");
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->location(0).line_size(), 3);
}

TEST_F(CommandTest, LeavesMangledNamesWhenAsked) {
  MakeProfile();
  EXPECT_EQ(Run("symbolize --demangle=none in.prof -o out.prof").status, 0);
  Result<Profile> profile = ReadProfile(directory_ / "out.prof");
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->string_table(static_cast<int>(profile->function(0).name())), "_ZN6sample5innerEi");
}

TEST_F(CommandTest, LooksWhereItIsTold) {
  MakeProfile();
  ASSERT_TRUE(directory_.Run("mkdir elsewhere && mv sample elsewhere"));
  EXPECT_NE(Run("symbolize in.prof -o out.prof").output.find("nothing found"), std::string::npos);
  EXPECT_NE(Run("symbolize --debug-path elsewhere in.prof -o out.prof").output.find("inlined calls"),
            std::string::npos);
  setenv("PROFAGENT_DEBUG_PATH", "/nonexistent:elsewhere", 1);
  EXPECT_NE(Run("symbolize in.prof -o out.prof").output.find("inlined calls"), std::string::npos);
  unsetenv("PROFAGENT_DEBUG_PATH");
}

// A directory's name with a typing error in it was passed by in silence.
TEST_F(CommandTest, SaysWhereItCannotLook) {
  MakeProfile();
  Outcome outcome =
      Run("symbolize -q --debug-path nowhere --debug-path . --debug-path main.cc in.prof -o out.prof");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output,
            "profagent: --debug-path: nothing is found in nowhere: No such file or directory\n"
            "profagent: --debug-path: nothing is found in main.cc: Not a directory\n");
}

// The profile was named before it, as if that were what is missing.
TEST_F(CommandTest, NamesThePerfMapThatItCannotRead) {
  MakeProfile();
  Outcome outcome = Run("symbolize --perf-map absent.map in.prof -o out.prof");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.output, "profagent: absent.map: No such file or directory\n");
}

TEST_F(CommandTest, NamesWhatItCannotReadOrWrite) {
  MakeProfile();
  Outcome outcome = Run("symbolize missing.prof -o out.prof");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.output, "profagent: missing.prof: No such file or directory\n");
  directory_.Write("text", "this is no profile, whatever its name says\n");
  EXPECT_EQ(Run("symbolize text -o out.prof").status, 1);
  std::string whole = testing::ReadWhole(directory_ / "in.prof");
  directory_.Write("cut.prof", whole.substr(0, whole.size() / 2));
  outcome = Run("symbolize cut.prof -o out.prof");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("cut.prof"), std::string::npos) << outcome.output;
  outcome = Run("symbolize in.prof -o nowhere/out.prof");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("nowhere"), std::string::npos) << outcome.output;
  struct stat status;
  EXPECT_NE(stat((directory_ / "out.prof").c_str(), &status), 0) << "a failure must leave nothing behind";
}

TEST_F(CommandTest, ExplainsItsOptions) {
  for (const char* arguments :
       {"symbolize", "symbolize in.prof", "symbolize in.prof -o", "symbolize --wrong in.prof -o x",
        "symbolize --demangle=most in.prof -o x", "check", "check one two"}) {
    Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.output;
    EXPECT_EQ(outcome.output.find("profagent: "), 0u) << outcome.output;
  }
  EXPECT_NE(Run("symbolize --help").output.find("PROFAGENT_DEBUG_PATH"), std::string::npos);
  EXPECT_NE(Run("check --help").output.find("Exit status: 0"), std::string::npos);
  const std::string run_help = Run("run --help").output;
  for (const char* option :
       {"\n  --cpu[=HZ] ", "\n  --heap[=RATE] ", "\n  --block[=NS] ", "\n  --mutex[=N] "})
    EXPECT_NE(run_help.find(option), std::string::npos) << option << "\n" << run_help;
}

TEST_F(CommandTest, ChecksWithAnExitStatusForScripts) {
  MakeProfile();
  Outcome outcome = Run("check ./sample");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output,
            "./sample\n"
            "ok       dynamically linked, x86-64, glibc\n"
            "ok       has debug information: functions, files, lines and inlined calls\n"
            "verdict: profiling works\n");
  ASSERT_TRUE(directory_.Run("g++ -static sample.cc main.cc -o sample"));
  outcome = Run("check ./sample");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(outcome.output.ends_with("verdict: profiling does not work\n")) << outcome.output;
  outcome = Run("check ./missing");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.output, "profagent: ./missing: No such file or directory\n");
}

}  // namespace
}  // namespace profagent
