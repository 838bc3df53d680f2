#include "symbolizer/run/output_names.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace profagent {
namespace {

namespace fs = std::filesystem;

class OutputNamesTest : public ::testing::Test {
 protected:
  OutputNamesTest() {
    std::string name = "/tmp/profagent-output-names-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~OutputNamesTest() override { fs::remove_all(directory_); }

  OutputNames Prepare(const std::string& wanted) {
    Result<OutputNames> names = OutputNames::Prepare(wanted);
    EXPECT_TRUE(names) << names.error().text.c_str();
    return *names;
  }

  fs::path directory_;
};

// Two processes with one file would leave the profile of whoever came last.
TEST_F(OutputNamesTest, GivesThePlainNameToTheCommandAndNoNameTwice) {
  OutputNames names = Prepare(directory_ / "x.prof");
  const std::string plain = directory_ / "x.prof";
  EXPECT_EQ(names.Next("app", 10, true), plain);
  EXPECT_EQ(names.Next("cc1", 11, false), plain + ".cc1.11");
  EXPECT_EQ(names.Next("cc1", 12, false), plain + ".cc1.12");
  EXPECT_EQ(names.Next("cc1", 11, false), plain + ".cc1.11.2");
  EXPECT_EQ(names.Next("cc1", 11, false), plain + ".cc1.11.3");
}

TEST_F(OutputNamesTest, PutsFilesIntoADirectoryThatExists) {
  OutputNames names = Prepare(directory_);
  EXPECT_EQ(names.Next("app", 1, true), directory_ / "cpu.prof");
  EXPECT_EQ(names.Next("app", 2, false), directory_ / "cpu.prof.app.2");
}

TEST_F(OutputNamesTest, MakesADirectoryThatIsNamedWithASlash) {
  OutputNames names = Prepare((directory_ / "a" / "b").string() + "/");
  EXPECT_TRUE(fs::is_directory(directory_ / "a" / "b"));
  EXPECT_EQ(names.Next("app", 1, true), directory_ / "a" / "b" / "cpu.prof");
}

TEST_F(OutputNamesTest, FillsInPidAndProgram) {
  OutputNames names = Prepare(directory_ / "%e-%p-100%%.prof");
  EXPECT_EQ(names.Next("app", 7, true), directory_ / "app-7-100%.prof");
  EXPECT_EQ(names.Next("cc1", 8, false), directory_ / "cc1-8-100%.prof") << "the pid is in the name already";
}

TEST_F(OutputNamesTest, AddsProgramAndPidWhenOnlyTheProgramIsInTheName) {
  OutputNames names = Prepare(directory_ / "%e.prof");
  EXPECT_EQ(names.Next("app", 7, true), directory_ / "app.prof");
  EXPECT_EQ(names.Next("app", 8, false), directory_ / "app.prof.app.8");
}

// Said before the program starts, not after an hour of work.
TEST_F(OutputNamesTest, RefusesADirectoryThatIsNotThere) {
  Result<OutputNames> names = OutputNames::Prepare(directory_ / "none" / "x.prof");
  ASSERT_FALSE(names);
  EXPECT_EQ(names.error().code, ENOENT);
  EXPECT_NE(names.error().text.view().find((directory_ / "none").string()), std::string_view::npos);
}

TEST_F(OutputNamesTest, RefusesADirectoryWithoutWritePermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  chmod(directory_.c_str(), 0500);
  EXPECT_FALSE(OutputNames::Prepare(directory_ / "x.prof"));
}

TEST_F(OutputNamesTest, RefusesAFileAsADirectory) {
  std::ofstream(directory_ / "file") << "x";
  EXPECT_FALSE(OutputNames::Prepare(directory_ / "file" / "x.prof"));
  EXPECT_FALSE(OutputNames::Prepare((directory_ / "file").string() + "/"));
}

TEST_F(OutputNamesTest, LeavesNothingBehindWhenItTries) {
  Prepare(directory_ / "x.prof");
  EXPECT_TRUE(fs::is_empty(directory_));
}

// A process that could not use the ledger directory writes its profile itself: it must not be overwritten.
TEST_F(OutputNamesTest, FindsWhatProcessesWroteThemselves) {
  std::ofstream(directory_ / "x.prof.old.1") << "from an earlier run";
  std::ofstream(directory_ / "x.prof") << "from an earlier run";
  OutputNames names = Prepare(directory_ / "x.prof");
  std::ofstream(directory_ / "temporary") << "new";
  fs::rename(directory_ / "temporary", directory_ / "x.prof");
  std::ofstream(directory_ / "x.prof.app.7") << "new";
  std::ofstream(directory_ / "other.prof") << "new";
  std::vector<std::string> written = names.TakeSelfWritten();
  ASSERT_EQ(written.size(), 2u);
  EXPECT_EQ(written[0], directory_ / "x.prof");
  EXPECT_EQ(written[1], directory_ / "x.prof.app.7");
  EXPECT_EQ(names.Next("sh", 7, true), directory_ / "x.prof.2");
}

TEST_F(OutputNamesTest, TakesADeviceAsItIs) {
  OutputNames names = Prepare("/dev/null");
  EXPECT_EQ(names.Next("app", 1, true), "/dev/null");
}

}  // namespace
}  // namespace profagent
