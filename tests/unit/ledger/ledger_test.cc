#include "agent/ledger/ledger.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/ledger/heap_sites.h"
#include "agent/ledger/ledger_view.h"
#include "tests/unit/in_child.h"
#include "tests/unit/ledger/ledger_promises.h"
#include "tests/unit/sanitized.h"

namespace profagent {
namespace {

using testing::ExpectPlaceToBeKept;
using testing::ExpectToKeepToALaterLimit;
using testing::InChild;
using testing::kSanitized;
using testing::PagesInMemory;

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

// Thousands of threads that wait at once each looked at the records of all others.
TEST_F(LedgerTest, LooksForAFreeWaiterOnlyWhereOneWasGivenBack) {
  WaiterRecord* first = ledger_.TakeWaiter(1);
  first->tid = 0;  // a look would find it
  WaiterRecord* second = ledger_.TakeWaiter(2);
  ASSERT_NE(second, nullptr);
  EXPECT_NE(second, first);
  ledger_.GiveWaiter(second);
  EXPECT_EQ(ledger_.TakeWaiter(3), second);
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

TEST_F(LedgerTest, StaysInItsPlaceInAForkedChild) {
  ExpectPlaceToBeKept(ledger_, [&] { return ledger_.CreateAnonymous(Bytes{kLedgerMinSize}); });
}

// The limit is the application's to live in: what we take, it does not get.
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

TEST(Ledger, KeepsToALimitThatComesLater) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}));
  ExpectToKeepToALaterLimit(ledger);
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

// Each page is a fault, in the handler of a tick.
TEST(Ledger, FewStacksTouchOnePageOfBuckets) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{uint64_t{256} << 20}));
  const LedgerHeader* header = ledger.header();
  uint64_t stacks = header->stacks.first * kRecordUnit, heap_sites = header->heap_sites.first * kRecordUnit;
  auto pages = [&](uint64_t from, uint32_t log2_count) {
    return PagesInMemory(ledger, from + 4096, (sizeof(RecordId) << log2_count) / 4096 - 2);
  };
  for (uint64_t i = 1; i <= 200; ++i) {
    Frame frames[] = {Frame{i * 977}, Frame{1}};
    ASSERT_NE(ledger.FindHeapSite(ledger.InternStack(frames, WalkEnd::kOutermost), Bytes{48}), nullptr);
  }
  EXPECT_LE(pages(stacks, header->stacks.log2_count), 4u);
  EXPECT_EQ(pages(heap_sites, header->heap_sites.log2_count), 0u);
  ledger.Close();
}

// Each page of buckets that is looked at is a fault, too, and in a file on tmpfs a page that it takes.
TEST(Ledger, AReaderOfFewStacksLooksAtOnePageOfBuckets) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{uint64_t{256} << 20}));
  auto intern = [&](uint64_t i) {
    Frame frames[] = {Frame{i * 977}, Frame{1}};
    StackId stack = ledger.InternStack(frames, WalkEnd::kOutermost);
    CountAllocation(ledger.header(), ledger.FindHeapSite(stack, Bytes{48}));
  };
  auto sites_read = [&] {
    uint64_t sites = 0;
    LedgerView::Over(ledger.bytes())->ForEachHeapSite([&](const LedgerView::HeapSite&) { ++sites; });
    return sites;
  };
  for (uint64_t i = 1; i <= 100; ++i) intern(i);
  const uint64_t first = ledger.header()->stacks.first * kRecordUnit;
  const uint64_t all = (ledger.header()->contention_sites.first * kRecordUnit - first) / 4096;
  uint64_t before = PagesInMemory(ledger, first + 4096, all);
  EXPECT_EQ(sites_read(), 100u);
  EXPECT_LE(PagesInMemory(ledger, first + 4096, all), before + 1);
  // With many, those in buckets of their own are found as well.
  for (uint64_t i = 101; i <= 20'000; ++i) intern(i);
  EXPECT_EQ(sites_read(), 20'000u);
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

// A program that gives each of its threads a name of its own, and makes them for ever, waited longer for each: 126 us for one behind
// 300 000 others, where 26 were enough before.
TEST(Ledger, ComparesATextWithFewOthers) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}));
  for (int i = 0; i < 100'000; ++i) ASSERT_NE(ledger.InternText("worker-" + std::to_string(i)), kNoText);
  const BucketArray& texts = ledger.header()->texts;
  const auto* heads = ledger.At<std::atomic<RecordId>>(texts.first);
  int longest = 0;
  for (uint32_t i = 0; i < texts.count(); ++i) {
    int length = 0;
    for (RecordId id = heads[i]; id != 0; id = ledger.At<TextRecord>(id)->next) ++length;
    longest = std::max(longest, length);
  }
  EXPECT_LT(longest, 100);
  ledger.Close();
}

// Behind a few thousand of them the order changes in which a stack is looked for: none may get a second id by that.
TEST(Ledger, GivesManyStacksOneIdEach) {
  constexpr int kThreads = 3;
  constexpr uint64_t kStacks = 20'000;
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateAnonymous(Bytes{16 << 20}));
  auto intern = [&](uint64_t i) {
    Frame frames[] = {Frame{i}, Frame{i / 7}};
    return ledger.InternStack(frames, WalkEnd::kOutermost).value;
  };
  std::vector<std::vector<RecordId>> ids(kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kStacks; ++i) ids[t].push_back(intern(i));
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<RecordId> distinct(ids[0].begin(), ids[0].end());
  EXPECT_EQ(distinct.size(), kStacks);
  EXPECT_EQ(distinct.count(0), 0u);
  for (size_t t = 1; t < kThreads; ++t) EXPECT_EQ(ids[t], ids[0]);
  for (uint64_t i = 0; i < kStacks; ++i) ASSERT_EQ(intern(i), ids[0][i]) << i;
  uint64_t stacks = 0;
  auto view = LedgerView::Over(ledger.bytes());
  ASSERT_TRUE(view);
  for (uint64_t i = 0; i < kStacks; ++i) stacks += view->FindStack(ids[0][i]).has_value() ? 1 : 0;
  EXPECT_EQ(stacks, kStacks);
  ledger.Close();
}

}  // namespace
}  // namespace profagent
