#include "agent/ledger/ledger.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "agent/ledger/ledger_view.h"

namespace profagent {
namespace {

#if defined(__has_feature)  // clang
#define PROF_TEST_HAS_FEATURE(name) __has_feature(name)
#else
#define PROF_TEST_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    PROF_TEST_HAS_FEATURE(address_sanitizer) || PROF_TEST_HAS_FEATURE(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

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

// In a sandbox a page more would be a system call, and that the program's death. What is there must stay readable.
TEST_F(LedgerTest, TakesNothingWhileItIsSuspended) {
  StackId one = Intern({Frame{1}, Frame{2}});
  ledger_.Suspend(true);
  ledger_.Suspend(true);
  EXPECT_FALSE(ledger_.CanRecord());
  uint64_t used = ledger_.header()->used;
  EXPECT_EQ(Intern({Frame{3}}), kNoStack);
  EXPECT_EQ(ledger_.InternText("text"), kNoText);
  EXPECT_EQ(ledger_.AllocateTable(Bytes{64}, Loss::kLedgerFull), nullptr);
  ledger_.Count(Loss::kReentered);
  EXPECT_EQ(ledger_.header()->used, used);
  EXPECT_EQ(Losses(Loss::kReentered), 0u);
  ledger_.Suspend(false);
  EXPECT_TRUE(ledger_.CanRecord());
  EXPECT_EQ(Intern({Frame{1}, Frame{2}}), one);
  EXPECT_NE(Intern({Frame{3}}), kNoStack);
}

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
  EXPECT_EQ(ledger_.InternStack(frames, WalkEnd::kOutermost, 4), kNoStack);
  EXPECT_EQ(Losses(Loss::kLedgerFull), 5u);  // ticks, not signals
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
  if (kSanitized) GTEST_SKIP() << "a sanitizer's shadow alone is terabytes of address space";
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

// Forks, runs `work` there and gives its exit status back; 200 + signal if it was killed.
template <class Work>
int InChild(Work&& work) {
  pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 200 + WTERMSIG(status) : WEXITSTATUS(status);
}

// From now on the calling process gets `error` for these system calls, as under a container's filter.
void Forbid(std::vector<int> calls, uint32_t error) {
  std::vector<struct sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  for (int call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  struct sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    _exit(99);
  }
}

// The limit is the application's to live in: what we take, it does not get.
// A handler may have forked, and return into a hook that holds pointers and ids: they lead to memory of the child's own, and to
// none of its records.
template <class Create>
void ExpectPlaceToBeKept(Ledger& ledger, Create create) {
  Frame frame{1};
  StackId stack = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
  auto* record = ledger.At<StackRecord>(stack.value);
  ledger.BeforeFork();
  EXPECT_EQ(InChild([&] {
              ledger.Vacate();
              if (ledger.is_open() || ledger.CanRecord() || ledger.IsOwn()) return 1;
              if (record->depth != 0) return 2;
              record->depth = 7;
              if (!create() || !ledger.IsOwn()) return 3;
              if (ledger.At<StackRecord>(stack.value) != record) return 4;
              record->depth = 7;
              StackId own = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
              if (own.value <= stack.value) return 5;
              Result<LedgerView> view = LedgerView::Over(ledger.bytes());
              return view && view->FindStack(own.value) && !view->FindStack(stack.value) ? 0 : 6;
            }),
            0);
  EXPECT_EQ(record->depth, 1);
}

TEST_F(LedgerTest, StaysInItsPlaceInAForkedChild) {
  ExpectPlaceToBeKept(ledger_, [&] { return ledger_.CreateAnonymous(Bytes{kLedgerMinSize}); });
}

TEST(Ledger, TakesASixteenthOfALimitAndSaysSo) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's shadow alone is terabytes of address space";
  for (auto resource : {RLIMIT_AS, RLIMIT_DATA}) {
    EXPECT_EQ(InChild([&] {
                struct rlimit limit = {uint64_t{2} << 30, uint64_t{2} << 30};
                setrlimit(resource, &limit);
                Ledger ledger;
                if (!ledger.CreateAnonymous(Bytes{kLedgerDefaultSize})) return 1;
                if (ledger.header()->size != uint64_t{128} << 20) return 2;
                return ledger.note().find("131072 KiB instead of 262144 KiB (a sixteenth of the") !=
                               std::string_view::npos
                           ? 0
                           : 3;
              }),
              0);
  }
}

// Pages of the ledger that are in memory, from byte `from` on.
size_t PagesInMemory(const Ledger& ledger, size_t from, size_t count) {
  std::vector<unsigned char> in_memory(count);
  auto* start = const_cast<std::byte*>(ledger.bytes().data()) + from / 4096 * 4096;
  EXPECT_EQ(mincore(start, count * 4096, in_memory.data()), 0);
  size_t found = 0;
  for (unsigned char each : in_memory) found += each & 1;
  return found;
}

// What the application maps there then is its own: Close leaves it alone.
void ExpectToKeepToALaterLimit(Ledger& ledger) {
  StackId before = ledger.InternStack(std::vector<Frame>{Frame{5}}, WalkEnd::kOutermost);
  uint64_t used = ledger.header()->used.load();
  ledger.KeepToLimit(Bytes{uint64_t{64} << 30});  // room for all of it
  EXPECT_EQ(ledger.header()->used.load(), used);
  ledger.KeepToLimit(Bytes{uint64_t{64} << 20});
  ledger.KeepToLimit(Bytes{uint64_t{32} << 20});
  auto* base = const_cast<std::byte*>(ledger.bytes().data());
  uint64_t start = (used + 4095) / 4096 * 4096, end = kLedgerDefaultSize - (uint64_t{4} << 20);
  std::vector<unsigned char> in_memory((end - start) / 4096);
  EXPECT_NE(mincore(base + start, 4096, in_memory.data()), 0);
  EXPECT_NE(mincore(base + end - 4096, 4096, in_memory.data()), 0);
  void* gap = mmap(base + start, end - start, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  EXPECT_EQ(gap, base + start);
  EXPECT_NE(ledger.AllocateTable(Bytes{128 * 1024}, Loss::kLedgerFull), nullptr);
  ledger.PopulateAhead();
  EXPECT_EQ(PagesInMemory(ledger, start, 256), 0u);
  StackId behind = ledger.InternStack(std::vector<Frame>{Frame{6}}, WalkEnd::kOutermost);
  EXPECT_GE(behind.value, end / kRecordUnit);
  EXPECT_EQ(ledger.InternStack(std::vector<Frame>{Frame{5}}, WalkEnd::kOutermost), before);
  EXPECT_TRUE(ledger.AddCpuTicks(behind, kNoText, 3));
  EXPECT_TRUE(LedgerView::Over(ledger.bytes()));
  EXPECT_NE(ledger.AllocateTable(Bytes{uint64_t{3} << 20}, Loss::kLedgerFull), nullptr);
  EXPECT_EQ(ledger.AllocateTable(Bytes{uint64_t{1} << 20}, Loss::kLedgerFull), nullptr);
  ledger.Close();
  EXPECT_EQ(mincore(gap, end - start, in_memory.data()), 0);
  munmap(gap, end - start);
}

TEST(Ledger, KeepsToALimitThatComesLater) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}));
  ExpectToKeepToALaterLimit(ledger);
}

TEST(Ledger, InAFileKeepsToALimitThatComesLater) {
  std::string path = testing::TempDir() + "later_limit." + std::to_string(getpid());
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path.c_str(), Bytes{kLedgerDefaultSize}));
  ExpectToKeepToALaterLimit(ledger);
  unlink(path.c_str());
}

TEST(Ledger, SaysNothingWhenAllIsAsAsked) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{kLedgerMinSize}));
  EXPECT_EQ(ledger.note(), "");
  EXPECT_EQ(ledger.header()->size, kLedgerMinSize);
  ledger.Close();
  EXPECT_FALSE(ledger.is_open());
  EXPECT_EQ(ledger.InternText("x"), kNoText);  // closed: inert, not a crash
  ledger.Count(Loss::kReentered);
  EXPECT_FALSE(ledger.AddModule({}));
  EXPECT_EQ(ledger.AddThread(1, kNoText), nullptr);
}

TEST(Ledger, PopulatesAheadOnlyWhenItHasGrown) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bool can_populate = madvise(page, 4096, MADV_POPULATE_WRITE) == 0;
  munmap(page, 4096);
  if (!can_populate) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{uint64_t{8} << 20}));
  auto used = [&] { return ledger.header()->used.load(); };
  uint64_t first_buckets = ledger.header()->stacks.first * kRecordUnit;
  uint64_t bucket_pages = (used() - first_buckets) / 4096 - 1;
  ledger.PopulateAhead();
  EXPECT_EQ(PagesInMemory(ledger, first_buckets + 4096, 256), 0u);
  ASSERT_NE(ledger.AllocateTable(Bytes{96 * 1024}, Loss::kLedgerFull), nullptr);
  ledger.PopulateAhead();
  EXPECT_EQ(PagesInMemory(ledger, first_buckets + 4096, bucket_pages), bucket_pages);
  EXPECT_EQ(PagesInMemory(ledger, used() + 4096, 256), 16u);
  // A table is touched page by page, as blocks come: only what will follow it is populated.
  uint64_t table = used() + 17 * 4096;
  ASSERT_NE(ledger.AllocateTable(Bytes{uint64_t{4} << 20}, Loss::kLedgerFull), nullptr);
  ledger.PopulateAhead();
  EXPECT_EQ(PagesInMemory(ledger, table, 256), 0u);
  EXPECT_EQ(PagesInMemory(ledger, used() + 4096, 256), 256u);
  ledger.PopulateAhead();  // there is enough
  EXPECT_EQ(PagesInMemory(ledger, used() + 4096, 512), 256u);
  while (ledger.AllocateTable(Bytes{64 * 1024}, Loss::kLedgerFull) != nullptr) ledger.PopulateAhead();
  EXPECT_LE(used(), uint64_t{8} << 20);
  EXPECT_EQ(ledger.header()->losses[static_cast<uint32_t>(Loss::kLedgerFull)].load(), 1u);
  ledger.Close();
}

TEST_F(LedgerTest, CutsAStackAtTheDeepestThatAReaderTakes) {
  std::vector<Frame> frames(70000, Frame{5});
  StackId id = ledger_.InternStack(frames, WalkEnd::kDepthLimit);
  ASSERT_NE(id, kNoStack);
  EXPECT_EQ(At<StackRecord>(id.value)->depth, kMaxStackRecord);
}

// Two ids for one stack would do no harm to sums, but would grow the ledger with every race.
TEST_F(LedgerTest, GivesRacingThreadsTheSameIds) {
  constexpr int kThreads = 4, kStacks = 3000;
  std::vector<std::vector<StackId>> ids(kThreads);
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (ready < kThreads) {
      }
      for (uint64_t i = 0; i < kStacks; ++i) {
        Frame frames[] = {Frame{i}, Frame{i / 7}};
        ids[static_cast<size_t>(t)].push_back(ledger_.InternStack(frames, WalkEnd::kOutermost));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int t = 1; t < kThreads; ++t) EXPECT_EQ(ids[static_cast<size_t>(t)], ids[0]);
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

// Whoever started us must be able to read it, whatever the program's umask.
TEST_F(LedgerFileTest, IsReadableByItsOwnerAlone) {
  EXPECT_EQ(InChild([&] {
              umask(0777);
              Ledger ledger;
              return ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}) ? 0 : 1;
            }),
            0);
  struct stat file = {};
  ASSERT_EQ(stat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
}

// A child that the fork hook never saw (a raw clone) must not record into its parent's file.
TEST_F(LedgerFileTest, IsInertInAForkedChild) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  Frame frame{1};
  StackId stack = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
  ASSERT_TRUE(ledger.AddCpuTicks(stack, kNoText, 1));
  EXPECT_EQ(InChild([&] {
              if (ledger.AddCpuTicks(stack, kNoText, 1)) return 1;
              if (ledger.InternText("x") != kNoText) return 2;
              ledger.Count(Loss::kReentered);
              // With a ledger of its own it records again, and the parent's file stays as it is.
              std::string own = path_ + ".child";
              if (!ledger.CreateInFile(own.c_str(), Bytes{kLedgerMinSize})) return 3;
              unlink(own.c_str());
              return ledger.InternText("x") != kNoText ? 0 : 4;
            }),
            0);
  Result<LedgerView> view = LedgerView::Over(ledger.bytes());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->losses(Loss::kReentered), 0u);
  uint64_t ticks = 0;
  view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { ticks += site.ticks; });
  EXPECT_EQ(ticks, 1u);
  EXPECT_TRUE(ledger.AddCpuTicks(stack, kNoText, 1));
  ledger.Close();
}

TEST_F(LedgerFileTest, StaysInItsPlaceInAForkedChild) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  std::string own = path_ + ".child";
  ExpectPlaceToBeKept(ledger, [&] {
    Status made = ledger.CreateInFile(own.c_str(), Bytes{kLedgerDefaultSize});
    unlink(own.c_str());
    return made;
  });
  // Where it cannot be made, too.
  ExpectPlaceToBeKept(ledger, [&] {
    if (ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return false;
    return static_cast<bool>(ledger.CreateAnonymous(Bytes{kLedgerMinSize}));
  });
  ledger.Close();
}

// Old kernels do not know MADV_POPULATE_WRITE, and filters forbid all sorts of calls: there is always another way.
TEST_F(LedgerFileTest, FindsAnotherWayWhenCallsAreForbidden) {
  struct Case {
    std::vector<int> calls;
    uint32_t error;
  };
  for (const Case& c :
       {Case{{SYS_madvise}, EINVAL}, Case{{SYS_madvise}, EPERM}, Case{{SYS_madvise}, ENOSYS},
        Case{{SYS_madvise, SYS_fallocate}, EPERM}, Case{{SYS_madvise, SYS_fallocate}, EOPNOTSUPP},
        Case{{SYS_prlimit64, SYS_getrlimit, SYS_madvise, SYS_fchmod}, EPERM}}) {
    EXPECT_EQ(InChild([&] {
                Forbid(c.calls, c.error);
                Ledger ledger;
                if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
                if (ledger.header()->size != uint64_t{16} << 20) return 2;
                if (ledger.note().find("MADV_POPULATE_WRITE is not available") == std::string_view::npos)
                  return 3;
                std::vector<Frame> frames(1000);
                do {
                  frames[0].value++;
                } while (ledger.InternStack(frames, WalkEnd::kOutermost) != kNoStack);
                return ledger.header()->losses[static_cast<uint32_t>(Loss::kLedgerFull)] == 1 ? 0 : 4;
              }),
              0)
        << c.calls.size() << " calls forbidden, error " << c.error;
    unlink(path_.c_str());
  }
}

// Work in a tmpfs of this size, mounted at `directory` for the caller alone; false where that is not permitted.
bool MountSmallTmpfs(const std::string& directory, const char* options) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0) return false;
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return mount("tmpfs", directory.c_str(), "tmpfs", 0, options) == 0;
}
constexpr int kCannotMount = 98;

// Touching a page that a full tmpfs cannot give is SIGBUS: the program would die of its profiler.
TEST_F(LedgerFileTest, CountsWhatAFullFileSystemHasNoRoomFor) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=2m")) return kCannotMount;
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
    Frame first{7};
    StackId kept = ledger.InternStack({&first, 1}, WalkEnd::kOutermost);
    std::vector<Frame> frames(500);
    int dropped = 0;
    for (int i = 0; i < 5000; ++i) {
      frames[0].value++;
      dropped += ledger.InternStack(frames, WalkEnd::kOutermost) == kNoStack;
    }
    if (dropped < 4000) return 2;
    uint64_t counted = ledger.header()->losses[static_cast<uint32_t>(Loss::kNoSpace)];
    if (counted != static_cast<uint64_t>(dropped)) return 3;
    if (ledger.header()->used > 3u << 20) return 4;  // what could not be had was not used up either
    if (!ledger.AddCpuTicks(kept, kNoText, 1) && ledger.InternStack({&first, 1}, WalkEnd::kOutermost) != kept)
      return 5;
    Result<LedgerView> view = LedgerView::Over(ledger.bytes());
    return view && view->FindStack(kept.value) ? 0 : 6;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
}

TEST_F(LedgerFileTest, LeavesNothingBehindWhereThereIsNoRoomAtAll) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=128k")) return kCannotMount;
    Ledger ledger;
    Status status = ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize});
    if (status || status.error().code != ENOSPC || ledger.is_open()) return 1;
    if (status.error().text.view() != "cannot reserve space in " + path_ + ": No space left on device")
      return 2;
    return access(path_.c_str(), F_OK) == 0 ? 3 : 0;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
}

// Without MADV_POPULATE_WRITE all of it is reserved at once: as much as there is.
TEST_F(LedgerFileTest, TakesWhatASmallFileSystemHasWhenItMustReserveAllOfIt) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=6m")) return kCannotMount;
    Forbid({SYS_madvise}, EINVAL);
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
    return ledger.header()->size == 4u << 20 ? 0 : 2;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
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
