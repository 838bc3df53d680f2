#include "symbolizer/run/output_names.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace profagent {
namespace {

namespace fs = std::filesystem;

const std::vector<ProfileKind> kAll = WantedKinds{}.Written();
const std::vector<ProfileKind> kHeapOnly = {ProfileKind::kHeap, ProfileKind::kHeapPeak};

class OutputNamesTest : public ::testing::Test {
 protected:
  OutputNamesTest() {
    std::string name = "/tmp/profagent-output-names-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~OutputNamesTest() override { fs::remove_all(directory_); }

  OutputNames Prepare(const std::string& wanted,
                      const std::vector<ProfileKind>& kinds = {ProfileKind::kCpu}) {
    Result<OutputNames> names = OutputNames::Prepare(wanted, kinds);
    EXPECT_TRUE(names) << names.error().text.c_str();
    return *names;
  }
  // What each kind's profile of the command itself is called, without the directory.
  std::vector<std::string> PlainNames(const std::string& wanted, const std::vector<ProfileKind>& kinds) {
    const OutputNames names = Prepare(directory_ / wanted, kinds);
    std::vector<std::string> plain;
    for (ProfileKind kind : kinds)
      plain.push_back(fs::path(names.Plain(kind, "app", 7)).lexically_relative(directory_));
    return plain;
  }
  // As a process does it: whole or not at all.
  void Write(const std::string& name) {
    std::ofstream(directory_ / "temporary") << "new";
    fs::rename(directory_ / "temporary", directory_ / name);
  }

  fs::path directory_;
};

// Two processes with one file would leave the profile of whoever came last.
TEST_F(OutputNamesTest, GivesThePlainNameToTheCommandAndNoNameTwice) {
  OutputNames names = Prepare(directory_ / "x.prof");
  const std::string plain = directory_ / "x.prof";
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 10}, true), plain);
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"cc1", 11}, false), plain + ".cc1.11");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"cc1", 12}, false), plain + ".cc1.12");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"cc1", 11, 1}, false), plain + ".cc1.11.2");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"cc1", 11, 2}, false), plain + ".cc1.11.3");
}

TEST_F(OutputNamesTest, PutsFilesIntoADirectoryThatExists) {
  OutputNames names = Prepare(directory_);
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 1}, true), directory_ / "cpu.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 2}, false), directory_ / "cpu.prof.app.2");
}

TEST_F(OutputNamesTest, MakesADirectoryThatIsNamedWithASlash) {
  OutputNames names = Prepare((directory_ / "a" / "b").string() + "/");
  EXPECT_TRUE(fs::is_directory(directory_ / "a" / "b"));
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 1}, true), directory_ / "a" / "b" / "cpu.prof");
}

TEST_F(OutputNamesTest, FillsInPidAndProgram) {
  OutputNames names = Prepare(directory_ / "%e-%p-100%%.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 7}, true), directory_ / "app-7-100%.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"cc1", 8}, false), directory_ / "cc1-8-100%.prof")
      << "the pid is in the name already";
}

// A run in 50%percent/ ended with profiles for a directory that was not there, and was lost.
TEST_F(OutputNamesTest, CallsADirectoryWhatItIsCalled) {
  const fs::path percent = directory_ / "50%percent%%e";
  const std::string escaped = (directory_ / "50%%percent%%%%e").string();
  fs::create_directory(percent);
  EXPECT_EQ(Prepare(percent).Plain(ProfileKind::kCpu, "app", 7), percent / "cpu.prof");
  OutputNames names = Prepare(percent / "%e.prof");
  EXPECT_EQ(names.Plain(ProfileKind::kCpu, "app", 7), percent / "app.prof");
  EXPECT_EQ(names.patterns().at(ProfileKind::kCpu), escaped + "/%e.prof") << "as the agent reads it";
  OutputNames unusable = Prepare(percent.string() + "//", kAll);
  Write("50%percent%%e/cpu.prof.app.7");
  ASSERT_EQ(unusable.TakeSelfWritten({}).size(), 1U);
  const fs::path fifo = percent / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(Prepare(fifo, kAll).Plain(ProfileKind::kHeap, "app", 7), fifo);
}

TEST_F(OutputNamesTest, AddsProgramAndPidWhenOnlyTheProgramIsInTheName) {
  OutputNames names = Prepare(directory_ / "%e.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 7}, true), directory_ / "app.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 8}, false), directory_ / "app.prof.app.8");
}

// A program that executes itself: with the CPU profile of its second image beside the heap of its first, under one name, each
// would be read as the other's.
TEST_F(OutputNamesTest, CallsAllKindsOfOneImageAlike) {
  OutputNames names = Prepare(directory_, kAll);
  const ImageName first{"app", 10, 0, true};
  const ImageName second{"app", 10, 1, true};
  EXPECT_EQ(names.Next(ProfileKind::kHeap, first, false), directory_ / "heap.prof.app.10");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, second, false), directory_ / "cpu.prof.app.10.2");
  EXPECT_EQ(names.Next(ProfileKind::kHeap, second, false), directory_ / "heap.prof.app.10.2");
  EXPECT_EQ(names.Next(ProfileKind::kHeapPeak, first, false), directory_ / "heap-peak.prof.app.10");
}

// kill -USR2 of a process under `-o x.%n.prof`: x.1.prof is its first dump, and must not be overwritten at the end.
TEST_F(OutputNamesTest, TakesTheNumberAfterTheDumps) {
  std::ofstream(directory_ / "x.1.prof") << "from an earlier run";
  fs::last_write_time(directory_ / "x.1.prof", fs::file_time_type::clock::now() - std::chrono::seconds(9));
  OutputNames names = Prepare(directory_ / "x.%n.prof", kAll);
  EXPECT_EQ(names.Plain(ProfileKind::kCpu, "app", 10), directory_ / "x.1.prof");
  for (const char* name : {"x.1.prof", "x.1.heap.prof", "x.2.heap.prof", "x.1.prof.cc1.11"}) Write(name);
  for (bool again : {false, true}) {
    EXPECT_EQ(names.Plain(ProfileKind::kHeap, "app", 10), directory_ / "x.3.heap.prof") << again;
  }
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 10}, true), directory_ / "x.3.prof");
  EXPECT_EQ(names.Next(ProfileKind::kHeap, {"cc1", 11}, false), directory_ / "x.2.heap.prof.cc1.11");
  EXPECT_EQ(names.Next(ProfileKind::kHeap, {"cc1", 12}, false), directory_ / "x.1.heap.prof.cc1.12");
}

// As the agent does it: the name with the pid is wanted by the program that comes.
TEST_F(OutputNamesTest, LeavesANameWithThePidToTheProgramThatAProcessBecomes) {
  OutputNames names = Prepare(directory_ / "%p.prof");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"sh", 7, 0, true}, false), directory_ / "7.prof.sh.7");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"app", 7, 1}, false), directory_ / "7.prof");
}

// Said before the program starts, not after an hour of work.
TEST_F(OutputNamesTest, RefusesADirectoryThatIsNotThere) {
  Result<OutputNames> names = OutputNames::Prepare(directory_ / "none" / "x.prof", kAll);
  ASSERT_FALSE(names);
  EXPECT_EQ(names.error().code, ENOENT);
  EXPECT_NE(names.error().text.view().find((directory_ / "none").string()), std::string_view::npos);
}

TEST_F(OutputNamesTest, RefusesADirectoryWithoutWritePermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  chmod(directory_.c_str(), 0500);
  EXPECT_FALSE(OutputNames::Prepare(directory_ / "x.prof", kAll));
}

// /tmp with the cpu.prof of another user: a new file can be made there, but not renamed to that one.
TEST_F(OutputNamesTest, RefusesAFileOfAnotherUserThatCannotBeReplaced) {
  if (geteuid() != 0) GTEST_SKIP() << "only root makes files of another user";
  constexpr uid_t kOwner = 65533, kUser = 65534;
  fs::create_symlink("cpu.prof", directory_ / "link");
  Write("cpu.prof");
  ASSERT_EQ(chown((directory_ / "cpu.prof").c_str(), kOwner, kOwner), 0);
  const auto as = [&](uid_t user, mode_t mode, const char* name) {
    chmod(directory_.c_str(), mode);
    EXPECT_EQ(seteuid(user), 0);
    Result<OutputNames> names = OutputNames::Prepare(directory_ / name, kAll);
    EXPECT_EQ(seteuid(0), 0);
    return names ? 0 : names.error().code;
  };
  EXPECT_EQ(as(kUser, 01777, "cpu.prof"), EPERM);
  EXPECT_EQ(as(kUser, 01777, ""), EPERM);
  EXPECT_EQ(as(kUser, 01777, "link"), EPERM);
  EXPECT_EQ(as(kUser, 01777, "x.prof"), 0);
  EXPECT_EQ(as(kUser, 0777, "cpu.prof"), 0);
  EXPECT_EQ(as(kOwner, 01777, "cpu.prof"), 0);
  EXPECT_EQ(as(0, 01777, "cpu.prof"), 0);
}

TEST_F(OutputNamesTest, RefusesAFileAsADirectory) {
  std::ofstream(directory_ / "file") << "x";
  EXPECT_FALSE(OutputNames::Prepare(directory_ / "file" / "x.prof", kAll));
  EXPECT_FALSE(OutputNames::Prepare((directory_ / "file").string() + "/", kAll));
}

TEST_F(OutputNamesTest, LeavesNothingBehindWhenItTries) {
  Prepare(directory_ / "x.prof");
  EXPECT_TRUE(fs::is_empty(directory_));
}

// Two kinds in one file would leave the profile of whoever came last.
TEST_F(OutputNamesTest, GivesEachKindANameOfItsOwn) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(PlainNames("", kAll),
            (Names{"cpu.prof", "heap.prof", "heap-peak.prof", "block.prof", "mutex.prof"}));
  EXPECT_EQ(PlainNames("x.prof", kAll),
            (Names{"x.prof", "x.heap.prof", "x.heap-peak.prof", "x.block.prof", "x.mutex.prof"}));
  EXPECT_EQ(PlainNames("x", kAll), (Names{"x", "x.heap", "x.heap-peak", "x.block", "x.mutex"}));
  EXPECT_EQ(PlainNames("x.pb.gz", kHeapOnly), (Names{"x.pb.gz", "x.heap-peak.pb.gz"}));
  EXPECT_EQ(PlainNames(".hidden", kHeapOnly), (Names{".hidden", ".hidden.heap-peak"}));
  EXPECT_EQ(PlainNames("%e-%p.prof", kHeapOnly), (Names{"app-7.prof", "app-7.heap-peak.prof"}));
}

TEST_F(OutputNamesTest, GivesThePlainNameToTheCpuProfileOrTheOnlyKind) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(PlainNames("x.prof", {ProfileKind::kMutex}), Names{"x.prof"});
  EXPECT_EQ(PlainNames("x.prof", {ProfileKind::kCpu, ProfileKind::kMutex}),
            (Names{"x.prof", "x.mutex.prof"}));
  EXPECT_EQ(PlainNames("x.prof", {ProfileKind::kBlock, ProfileKind::kMutex}),
            (Names{"x.block.prof", "x.mutex.prof"}));
}

// A dot of the directory's name is no extension.
TEST_F(OutputNamesTest, LooksForTheExtensionInTheFileNameOnly) {
  fs::create_directory(directory_ / "a.b");
  EXPECT_EQ(PlainNames("a.b/x", kHeapOnly), (std::vector<std::string>{"a.b/x", "a.b/x.heap-peak"}));
}

TEST_F(OutputNamesTest, RefusesADirectoryInThePlaceOfAnyKind) {
  fs::create_directory(directory_ / "x.heap.prof");
  Result<OutputNames> names = OutputNames::Prepare(directory_ / "x.prof", kAll);
  ASSERT_FALSE(names);
  EXPECT_EQ(names.error().code, EISDIR);
}

// A process that could not use the ledger directory writes its profiles itself: they must not be overwritten.
TEST_F(OutputNamesTest, FindsWhatProcessesWroteThemselves) {
  std::ofstream(directory_ / "x.prof.old.1") << "from an earlier run";
  std::ofstream(directory_ / "x.prof") << "from an earlier run";
  OutputNames names = Prepare(directory_ / "x.prof");
  for (const char* name : {"x.prof", "x.prof.app.7", "other.prof", "x.prof.bak", "x.prof.7"}) Write(name);
  std::vector<OutputNames::SelfWritten> written = names.TakeSelfWritten({});
  ASSERT_EQ(written.size(), 2u);
  EXPECT_EQ(written[0].file, directory_ / "x.prof");
  EXPECT_EQ(written[1].file, directory_ / "x.prof.app.7");
  EXPECT_EQ(names.Next(ProfileKind::kCpu, {"sh", 7}, true), directory_ / "x.prof.2");
}

TEST_F(OutputNamesTest, TellsTheKindsThatProcessesWroteApart) {
  OutputNames names = Prepare(directory_ / "x", kAll);
  for (const char* name : {"x.heap", "x.heap.app.7", "x.heap-peak.app.7", "x.app.7"}) Write(name);
  std::map<std::string, ProfileKind> kinds;
  for (const auto& [kind, file] : names.TakeSelfWritten({})) kinds[fs::path(file).filename()] = kind;
  EXPECT_EQ(kinds, (std::map<std::string, ProfileKind>{{"x.heap", ProfileKind::kHeap},
                                                       {"x.heap.app.7", ProfileKind::kHeap},
                                                       {"x.heap-peak.app.7", ProfileKind::kHeapPeak},
                                                       {"x.app.7", ProfileKind::kCpu}}));
}

// kill -USR2 in the middle of a run: what it wrote is the user's, and its samples are in the records once more.
TEST_F(OutputNamesTest, LeavesDumpsAlone) {
  OutputNames names = Prepare(directory_, kAll);
  for (const char* name : {"heap.prof.1", "heap.prof.python3.11.42.1", "heap.prof.sh.9", "heap.prof.sh.9.1"})
    Write(name);
  std::vector<OutputNames::SelfWritten> written = names.TakeSelfWritten({".python3.11.42"});
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written[0].file, directory_ / "heap.prof.sh.9");
}

TEST_F(OutputNamesTest, TakesADeviceAsItIs) {
  OutputNames names = Prepare("/dev/null", kAll);
  for (ProfileKind kind : kAll) {
    EXPECT_EQ(names.Next(kind, {"app", 1}, true), "/dev/null");
    EXPECT_EQ(names.Next(kind, {"sh", 2}, false), "/dev/null") << "/dev is no place for files";
  }
}

}  // namespace
}  // namespace profagent
