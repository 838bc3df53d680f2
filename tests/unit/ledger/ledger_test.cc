#include "agent/ledger/ledger.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "agent/ledger/ledger_view.h"

namespace profagent {
namespace {

class LedgerTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize})); }
  void TearDown() override { ledger_.Close(); }

  StackId Intern(std::vector<Frame> frames) { return ledger_.InternStack(frames, WalkEnd::kOutermost); }
  uint64_t Losses(Loss loss) { return ledger_.header()->losses[static_cast<uint32_t>(loss)]; }
  template <class Record>
  const Record* At(RecordId id) {
    return reinterpret_cast<const Record*>(ledger_.bytes().data() + id * kRecordUnit);
  }

  Ledger ledger_;
};

// Equal stacks with two ids would be two rows of one function's time.
TEST_F(LedgerTest, GivesEqualStacksTheSameId) {
  StackId one = Intern({Frame{1}, Frame{2}});
  EXPECT_NE(one, kNoStack);
  EXPECT_EQ(Intern({Frame{1}, Frame{2}}), one);
  EXPECT_NE(Intern({Frame{2}, Frame{1}}), one);
  EXPECT_NE(Intern({Frame{1}}), one);
}

TEST_F(LedgerTest, KeepsTheSameFramesWithDifferentEndsApart) {
  std::vector<Frame> frames = {Frame{7}};
  EXPECT_NE(ledger_.InternStack(frames, WalkEnd::kOutermost),
            ledger_.InternStack(frames, WalkEnd::kUnreadable));
}

TEST_F(LedgerTest, AddsTicksToTheSiteOfStackAndThreadName) {
  StackId stack = Intern({Frame{1}});
  TextId name = ledger_.InternText("worker");
  EXPECT_TRUE(ledger_.AddCpuTicks(stack, name, 3));
  EXPECT_TRUE(ledger_.AddCpuTicks(stack, name, 4));
  EXPECT_TRUE(ledger_.AddCpuTicks(stack, ledger_.InternText("other"), 1));
  uint64_t total = 0;
  int sites = 0;
  auto* header = ledger_.header();
  for (uint32_t i = 0; i < (1u << header->cpu_sites.log2_count); ++i) {
    for (RecordId id = At<RecordId>(header->cpu_sites.first)[i]; id != 0; id = At<CpuSiteRecord>(id)->next) {
      total += At<CpuSiteRecord>(id)->ticks;
      ++sites;
    }
  }
  EXPECT_EQ(total, 8u);
  EXPECT_EQ(sites, 2);
}

// A full ledger must cost samples, never time, and must not forget what it holds.
TEST_F(LedgerTest, CountsWhatItDropsWhenFullAndKeepsTheRest) {
  StackId first = Intern({Frame{1}});
  std::vector<Frame> frames(128);
  uint64_t i = 2;
  do {
    frames[0] = Frame{i++};
  } while (ledger_.InternStack(frames, WalkEnd::kOutermost) != kNoStack);
  EXPECT_GT(i, 500u);  // 1 MiB holds some 900 stacks of 1 KiB
  EXPECT_EQ(Losses(Loss::kLedgerFull), 1u);
  EXPECT_EQ(Intern({Frame{1}}), first);
  frames[0] = Frame{i++};
  EXPECT_EQ(ledger_.InternStack(frames, WalkEnd::kOutermost), kNoStack);
  EXPECT_EQ(Losses(Loss::kLedgerFull), 2u);
}

TEST_F(LedgerTest, CutsATextAtFourKibibytes) {
  TextId id = ledger_.InternText(std::string(5000, 'x'));
  EXPECT_EQ(At<TextRecord>(id.value)->size, 4096u);
  EXPECT_EQ(At<TextRecord>(id.value)->data()[4096], '\0');
}

// Threads that meet the same new stacks in the same instant must lose no tick.
TEST_F(LedgerTest, LosesNoTickWhenThreadsRaceForTheSameStacks) {
  constexpr int kThreads = 4, kRounds = 20000, kStacks = 64;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        Frame frame{static_cast<uint64_t>(round % kStacks + 1)};
        StackId id = ledger_.InternStack({&frame, 1}, WalkEnd::kOutermost);
        ASSERT_TRUE(ledger_.AddCpuTicks(id, kNoText, 1));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  uint64_t total = 0;
  auto* header = ledger_.header();
  for (uint32_t i = 0; i < (1u << header->cpu_sites.log2_count); ++i) {
    for (RecordId id = At<RecordId>(header->cpu_sites.first)[i]; id != 0; id = At<CpuSiteRecord>(id)->next) {
      total += At<CpuSiteRecord>(id)->ticks;
    }
  }
  EXPECT_EQ(total, uint64_t{kThreads} * kRounds);
}

// A child that went on with its parent's records would report its parent's time twice.
TEST_F(LedgerTest, IsEmptyAndInertInAForkedChild) {
  Intern({Frame{1}});
  pid_t child = fork();
  if (child == 0) {
    bool inert = Intern({Frame{2}}) == kNoStack && ledger_.InternText("x") == kNoText;
    _exit(inert && ledger_.header()->magic == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Ledger, TakesLessWhenTheAddressSpaceIsLimited) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow alone is terabytes of address space";
#endif
  pid_t child = fork();
  if (child == 0) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = uint64_t{1} << 30;  // the test itself has some hundred MiB mapped
    setrlimit(RLIMIT_AS, &limit);
    Ledger ledger;
    bool made = static_cast<bool>(ledger.CreateAnonymous(Bytes{uint64_t{2} << 30}));
    _exit(made && ledger.header()->size < (uint64_t{1} << 30) && ledger.header()->size >= kLedgerMinSize ? 0
                                                                                                         : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

class LedgerFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/dev/shm/ledger_test.XXXXXX";
    directory_ = mkdtemp(directory);
    path_ = directory_ + "/ledger";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }
  std::string directory_, path_;
};

// A build starts ten thousand processes, most of which have no sample: half a megabyte of memory for each is five gigabytes.
TEST_F(LedgerFileTest, GivesUnusedSpaceBackAtTheEnd) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  std::vector<Frame> frames = {Frame{1}, Frame{2}};
  StackId stack = ledger.InternStack(frames, WalkEnd::kOutermost);
  ledger.AddCpuTicks(stack, kNoText, 3);
  ledger.ReleaseUnused();
  struct stat file = {};
  ASSERT_EQ(stat(path_.c_str(), &file), 0);
  EXPECT_LE(file.st_blocks * 512, 32 * 1024);
  EXPECT_NE(ledger.InternText("a thread that is still at work"), kNoText);
  // The exec failed, the process goes on.
  ASSERT_TRUE(ledger.ReserveAgain());
  EXPECT_EQ(ledger.InternStack(frames, WalkEnd::kOutermost), stack);
  frames[0] = Frame{9};
  EXPECT_NE(ledger.InternStack(frames, WalkEnd::kOutermost), kNoStack);
  auto view = LedgerView::Over(ledger.bytes());
  ASSERT_TRUE(view);
  uint64_t ticks = 0;
  EXPECT_EQ(view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { ticks += site.ticks; }), 0u);
  EXPECT_EQ(ticks, 3u);
  ledger.Close();
}

TEST_F(LedgerFileTest, OutlivesAProcessThatIsKilled) {
  pid_t child = fork();
  if (child == 0) {
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) _exit(1);
    ledger.InternText("still here");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  FILE* file = fopen(path_.c_str(), "rb");
  ASSERT_NE(file, nullptr);
  std::string bytes(1 << 20, '\0');
  bytes.resize(fread(bytes.data(), 1, bytes.size(), file));
  fclose(file);
  EXPECT_NE(bytes.find("still here"), std::string::npos);
}

// Passing RLIMIT_FSIZE is SIGXFSZ, which would kill the program for our sake.
TEST_F(LedgerFileTest, StaysBelowTheFileSizeLimit) {
  pid_t child = fork();
  if (child == 0) {
    struct rlimit limit = {4u << 20, 4u << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    Ledger ledger;
    bool made = static_cast<bool>(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
    _exit(made && ledger.header()->size == (4u << 20) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(LedgerFileTest, SaysWhyItCannotBeMade) {
  Ledger ledger;
  Status status = ledger.CreateInFile("/nonexistent/ledger", Bytes{kLedgerMinSize});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ENOENT);
  EXPECT_NE(status.error().text.view().find("/nonexistent/ledger"), std::string_view::npos);
  EXPECT_FALSE(ledger.is_open());
}

}  // namespace
}  // namespace profagent
