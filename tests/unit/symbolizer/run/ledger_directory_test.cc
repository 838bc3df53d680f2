#include "symbolizer/run/ledger_directory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

namespace profagent {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOfNobody = "4194304.1.ledger";  // no process has this number

// $XDG_RUNTIME_DIR is the first place that is tried: the tests have one of their own.
class LedgerDirectoryTest : public ::testing::Test {
 protected:
  LedgerDirectoryTest() {
    const char* before = getenv("XDG_RUNTIME_DIR");
    if (before != nullptr) before_ = before;
    std::string name = "/tmp/profagent-ledger-test-XXXXXX";
    place_ = mkdtemp(name.data());
    fs::permissions(place_, fs::perms(0755));
    setenv("XDG_RUNTIME_DIR", place_.c_str(), 1);
  }
  ~LedgerDirectoryTest() override {
    if (before_) {
      setenv("XDG_RUNTIME_DIR", before_->c_str(), 1);
    } else {
      unsetenv("XDG_RUNTIME_DIR");
    }
    fs::remove_all(place_);
  }

  // A directory as a killed run leaves it.
  fs::path LeftOver(const std::string& name, const std::string& ledger, int hours_ago) {
    fs::path path = place_ / ("profagent-run-" + name);
    fs::create_directory(path);
    if (!ledger.empty()) std::ofstream(path / ledger) << "x";
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours_ago));
    return path;
  }
  static bool Contains(const std::vector<std::string>& paths, const fs::path& path) {
    return std::count(paths.begin(), paths.end(), path.string()) == 1;
  }

  fs::path place_;
  std::optional<std::string> before_;
};

mode_t Mode(const fs::path& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

// What a process does is nobody else's business. What root runs may become another user's, and records still.
TEST_F(LedgerDirectoryTest, IsPrivateAndGoesWithItsOwner) {
  fs::path top;
  {
    Result<LedgerDirectory> directory = LedgerDirectory::Create();
    ASSERT_TRUE(directory);
    top = directory->top();
    fs::path path = directory->path();
    EXPECT_EQ(top.parent_path(), place_);
    if (geteuid() != 0) {
      EXPECT_EQ(path, top);
      EXPECT_EQ(Mode(path), 0700u);
    } else {
      EXPECT_EQ(path.parent_path(), top);
      EXPECT_EQ(path.filename().string().size(), 32u);
      EXPECT_EQ(Mode(path), 01733u);
      EXPECT_EQ(Mode(top), 0711u);
    }
    std::ofstream(path / kOfNobody) << "x";
  }
  EXPECT_FALSE(fs::exists(top));
}

TEST_F(LedgerDirectoryTest, StaysWhenItIsKept) {
  fs::path path, top;
  {
    Result<LedgerDirectory> directory = LedgerDirectory::Create();
    ASSERT_TRUE(directory);
    path = directory->path();
    top = directory->top();
    std::ofstream(path / kOfNobody) << "x";
    directory->Keep();
  }
  EXPECT_TRUE(fs::exists(path / kOfNobody));
  EXPECT_FALSE(Contains(TidyLeftOvers(), top)) << "whoever kept it knows of it";
  EXPECT_TRUE(fs::exists(path / kOfNobody));
}

TEST_F(LedgerDirectoryTest, ListsLedgersByPidAndSerialAndNothingElse) {
  Result<LedgerDirectory> directory = LedgerDirectory::Create();
  ASSERT_TRUE(directory);
  for (const char* name :
       {"20.1.ledger", "3.10.ledger", "3.9.ledger", "libprofagent.so", "x.1.ledger", "3.ledger"}) {
    std::ofstream(directory->path() + "/" + name) << "x";
  }
  std::vector<LedgerDirectory::LedgerFile> ledgers = directory->List();
  ASSERT_EQ(ledgers.size(), 3u);
  EXPECT_EQ(ledgers[0].serial, 9u);
  EXPECT_EQ(ledgers[1].serial, 10u);
  EXPECT_EQ(ledgers[2].pid, 20u);
}

TEST(LedgerName, IsPidAndSerial) {
  uint32_t pid = 0, serial = 0;
  EXPECT_TRUE(ParseLedgerName("4194304.12.ledger", &pid, &serial));
  EXPECT_EQ(pid, 4194304u);
  EXPECT_EQ(serial, 12u);
  for (const char* name : {"", ".ledger", "1.ledger", "1.2.ledge", "1.2x.ledger", "-1.2.ledger", "1..ledger",
                           "99999999999.1.ledger"}) {
    EXPECT_FALSE(ParseLedgerName(name, &pid, &serial)) << name;
  }
}

// A run that lives holds the lock: another run must not take its ledgers away.
TEST_F(LedgerDirectoryTest, TidyingLeavesALivingRunAlone) {
  Result<LedgerDirectory> directory = LedgerDirectory::Create();
  ASSERT_TRUE(directory);
  std::ofstream(directory->path() + "/" + kOfNobody) << "x";
  fs::last_write_time(directory->path(), fs::file_time_type::clock::now() - std::chrono::hours(100));
  std::vector<std::string> kept = TidyLeftOvers();
  EXPECT_FALSE(Contains(kept, directory->top()));
  EXPECT_TRUE(fs::exists(directory->path()));
}

TEST_F(LedgerDirectoryTest, TidyingRemovesTheOldAndNamesTheNew) {
  fs::path old = LeftOver("1-old", kOfNobody, 25);
  fs::path fresh = LeftOver("2-new", kOfNobody, 1);
  fs::path empty = LeftOver("3-empty", "", 1);
  fs::path just_made = LeftOver("4-just-made", "", 0);
  std::vector<std::string> kept = TidyLeftOvers();
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(fresh));
  EXPECT_TRUE(Contains(kept, fresh));
  EXPECT_FALSE(fs::exists(empty));
  EXPECT_TRUE(fs::exists(just_made)) << "its run may not have locked it yet";
  EXPECT_FALSE(Contains(TidyLeftOvers(), fresh)) << "said once is enough";
  EXPECT_TRUE(fs::exists(fresh));
}

// Root may remove what is another user's, and must not: it is that one's to be told of.
TEST_F(LedgerDirectoryTest, TidyingLeavesThoseOfOtherUsersAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "only root makes directories of another user";
  fs::path old = LeftOver("7-not-ours", kOfNobody, 25);
  ASSERT_EQ(chown(old.c_str(), 65534, 65534), 0);
  EXPECT_FALSE(Contains(TidyLeftOvers(), old));
  EXPECT_TRUE(fs::exists(old / kOfNobody));
}

// As a run of root's leaves it. Younger files than the directory that they are in.
TEST_F(LedgerDirectoryTest, TidyingLooksIntoTheDirectoryForAllUsers) {
  for (int hours : {25, 1}) {
    fs::path top = LeftOver("6-roots", "", 25);
    fs::path path = top / "0123456789abcdef0123456789abcdef";
    fs::create_directory(path);
    std::ofstream(path / kOfNobody) << "x";
    auto then = fs::file_time_type::clock::now() - std::chrono::hours(hours);
    fs::last_write_time(path, then);
    fs::last_write_time(top, fs::file_time_type::clock::now() - std::chrono::hours(25));
    EXPECT_EQ(Contains(TidyLeftOvers(), top), hours == 1);
    EXPECT_EQ(fs::exists(path / kOfNobody), hours == 1);
    if (hours == 25) continue;
    EXPECT_LT(fs::last_write_time(path) - then, std::chrono::seconds(2)) << "not a day longer";
  }
}

// The program of a run that was killed may live on and record.
TEST_F(LedgerDirectoryTest, TidyingKeepsWhatAProcessStillRecordsInto) {
  fs::path old = LeftOver("5-used", std::to_string(getpid()) + ".1.ledger", 0);
  fs::path ledger = old / (std::to_string(getpid()) + ".1.ledger");
  int fd = open(ledger.c_str(), O_RDWR);
  void* mapped = mmap(nullptr, 1, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(100));
  TidyLeftOvers();
  EXPECT_TRUE(fs::exists(old));
  munmap(mapped, 1);
  TidyLeftOvers();
  EXPECT_FALSE(fs::exists(old));
}

}  // namespace
}  // namespace profagent
