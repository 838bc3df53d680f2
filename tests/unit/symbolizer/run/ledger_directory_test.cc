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

// $XDG_RUNTIME_DIR is the first place that is tried: the tests have one of their own.
class LedgerDirectoryTest : public ::testing::Test {
 protected:
  LedgerDirectoryTest() {
    const char* before = getenv("XDG_RUNTIME_DIR");
    if (before != nullptr) before_ = before;
    std::string name = "/tmp/profagent-ledger-test-XXXXXX";
    place_ = mkdtemp(name.data());
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

// What a process does is nobody else's business.
TEST_F(LedgerDirectoryTest, IsPrivateAndGoesWithItsOwner) {
  fs::path path;
  {
    Result<LedgerDirectory> directory = LedgerDirectory::Create();
    ASSERT_TRUE(directory);
    path = directory->path();
    EXPECT_EQ(path.parent_path(), place_);
    struct stat info = {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700u);
    std::ofstream(path / "1.1.ledger") << "x";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(LedgerDirectoryTest, StaysWhenItIsKept) {
  fs::path path;
  {
    Result<LedgerDirectory> directory = LedgerDirectory::Create();
    ASSERT_TRUE(directory);
    path = directory->path();
    std::ofstream(path / "1.1.ledger") << "x";
    directory->Keep();
  }
  EXPECT_TRUE(fs::exists(path));
  EXPECT_FALSE(Contains(TidyLeftOvers(), path)) << "whoever kept it knows of it";
  EXPECT_TRUE(fs::exists(path));
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
  std::ofstream(directory->path() + "/1.1.ledger") << "x";
  fs::last_write_time(directory->path(), fs::file_time_type::clock::now() - std::chrono::hours(100));
  std::vector<std::string> kept = TidyLeftOvers();
  EXPECT_FALSE(Contains(kept, directory->path()));
  EXPECT_TRUE(fs::exists(directory->path()));
}

TEST_F(LedgerDirectoryTest, TidyingRemovesTheOldAndNamesTheNew) {
  fs::path old = LeftOver("1-old", "1.1.ledger", 25);
  fs::path fresh = LeftOver("2-new", "1.1.ledger", 1);
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
