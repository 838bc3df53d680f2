#include "symbolizer/run/ledger_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace profagent {
namespace {

class LedgerWatchTest : public ::testing::Test {
 protected:
  LedgerWatchTest() {
    std::string name = "/tmp/profagent-watch-test-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~LedgerWatchTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

// What a process does that is killed: the kernel unmaps its ledger.
TEST_F(LedgerWatchTest, KnowsWhenALedgerWasLetGo) {
  std::vector<std::string> told;
  LedgerWatch watch(directory_, [&](const std::string& name) { told.push_back(name); });
  const std::string path = directory_ + "/12.1.ledger";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(ftruncate(fd, 4096), 0);
  void* ledger = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(ledger, MAP_FAILED);
  close(fd);
  watch.Note();
  EXPECT_EQ(watch.ReleasedAt(path), Nanos{}) << "it is mapped still";
  EXPECT_TRUE(told.empty());
  const Nanos before = MonotonicNow();
  munmap(ledger, 4096);
  watch.Note();
  const Nanos released = watch.ReleasedAt(path);
  EXPECT_GE(released, before);
  EXPECT_LE(released, MonotonicNow());
  EXPECT_EQ(told, std::vector<std::string>{"12.1.ledger"});
  close(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  watch.Note();
  EXPECT_EQ(watch.ReleasedAt(path), released) << "somebody looked at it";
  EXPECT_EQ(watch.ReleasedAt(directory_ + "/12.2.ledger"), Nanos{});
}

TEST_F(LedgerWatchTest, KnowsNothingWhereItCannotWatch) {
  LedgerWatch watch(directory_ + "/nowhere");
  EXPECT_EQ(watch.fd(), -1);
  watch.Note();
  EXPECT_EQ(watch.ReleasedAt("12.1.ledger"), Nanos{});
}

}  // namespace
}  // namespace profagent
