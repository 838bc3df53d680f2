#include "agent/ledger/heap_sites.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "agent/ledger/ledger_view.h"

namespace profagent {
namespace {

class HeapSitesTest : public testing::Test {
 protected:
  HeapSitesTest() { EXPECT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize})); }
  ~HeapSitesTest() override { ledger_.Close(); }

  HeapSiteRecord* Site(uint64_t number) {
    Frame frame = Frame::Of(ModuleId{1}, number);
    return ledger_.FindHeapSite(ledger_.InternStack({&frame, 1}, WalkEnd::kOutermost), Bytes{number});
  }
  void Allocate(HeapSiteRecord* site) { CountAllocation(ledger_.header(), site); }
  void Free(HeapSiteRecord* site) { CountFree(ledger_.header(), site); }

  std::map<uint64_t, uint64_t> Peak() const {  // size -> objects
    std::map<uint64_t, uint64_t> peak;
    LedgerView::Over(ledger_.bytes())->ForEachHeapSite([&](const LedgerView::HeapSite& site) {
      if (site.peak != 0) peak[site.size] = site.peak;
    });
    return peak;
  }

  Ledger ledger_;
};

TEST_F(HeapSitesTest, CountsWhatIsLive) {
  HeapSiteRecord* site = Site(32);
  for (int i = 0; i < 5; ++i) Allocate(site);
  for (int i = 0; i < 2; ++i) Free(site);
  LedgerView view = *LedgerView::Over(ledger_.bytes());
  int seen = 0;
  EXPECT_EQ(view.ForEachHeapSite([&](const LedgerView::HeapSite& found) {
    ++seen;
    EXPECT_EQ(found.size, 32u);
    EXPECT_EQ(found.allocations, 5u);
    EXPECT_EQ(found.inuse, 3u);
  }),
            0u);
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(ledger_.header()->heap_inuse.load(), 3u * 32);
}

TEST_F(HeapSitesTest, ThePeakIsNowWhileTheHeapGrows) {
  Allocate(Site(10));
  Allocate(Site(20));
  EXPECT_EQ(Peak(), (std::map<uint64_t, uint64_t>{{10, 1}, {20, 1}}));
}

TEST_F(HeapSitesTest, ThePeakKeepsWhatWasFreedAndLeavesOutWhatCameLater) {
  HeapSiteRecord *big = Site(100), *small = Site(1), *late = Site(7);
  Allocate(big);
  Allocate(big);
  Allocate(small);
  Free(big);
  Free(big);
  Allocate(late);
  Allocate(small);
  EXPECT_EQ(Peak(), (std::map<uint64_t, uint64_t>{{100, 2}, {1, 1}}));
}

// The heap falls and rises for hours: the profile of the highest moment must be exact, whatever came between.
TEST_F(HeapSitesTest, IsThePeakOfARandomHistory) {
  std::mt19937 random(3);
  for (int history = 0; history < 50; ++history) {
    ledger_.Close();
    ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize}));
    std::vector<HeapSiteRecord*> sites;
    for (uint64_t i = 1; i <= 12; ++i) sites.push_back(Site(i * 16));
    std::map<uint64_t, uint64_t> live, peak;
    uint64_t total = 0, highest = 0;
    int bias = 50;
    for (int step = 0; step < 2000; ++step) {
      if (step % 200 == 0) bias = 30 + static_cast<int>(random() % 41);
      HeapSiteRecord* site = sites[random() % sites.size()];
      if (static_cast<int>(random() % 100) < bias) {
        Allocate(site);
        ++live[site->size];
        total += site->weight;
      } else if (live[site->size] > 0) {
        Free(site);
        --live[site->size];
        total -= site->weight;
      }
      if (total > highest) {
        highest = total;
        peak = live;
      }
    }
    std::erase_if(peak, [](const auto& entry) { return entry.second == 0; });
    ASSERT_EQ(Peak(), peak) << "history " << history;
  }
}

// The first sizes hang in the stack's record, the others in buckets: each is found again, and read once.
TEST_F(HeapSitesTest, AStackHasASiteForEachSize) {
  Frame frames[] = {Frame{1}, Frame{2}};
  StackId stack = ledger_.InternStack(frames, WalkEnd::kOutermost);
  std::map<uint64_t, HeapSiteRecord*> sites;
  for (uint64_t size = 1; size <= 200; ++size) sites[size] = ledger_.FindHeapSite(stack, Bytes{size});
  for (auto& [size, site] : sites) {
    ASSERT_EQ(ledger_.FindHeapSite(stack, Bytes{size}), site);
    for (uint64_t i = 0; i < size; ++i) Allocate(site);
  }
  std::map<uint64_t, uint64_t> read;
  LedgerView view = *LedgerView::Over(ledger_.bytes());
  EXPECT_EQ(view.ForEachHeapSite([&](const LedgerView::HeapSite& site) {
    EXPECT_EQ(site.stack.frames.size(), 2u);
    read[site.size] += site.allocations;
  }),
            0u);
  ASSERT_EQ(read.size(), 200u);
  for (auto& [size, allocations] : read) EXPECT_EQ(allocations, size);
}

// Sites of several stacks meet in one bucket, with the same sizes. Few hang in a stack's record: with a thousand sizes each sample
// would go through a thousand of them.
TEST_F(HeapSitesTest, SitesOfManyStacksDoNotMix) {
  std::map<std::pair<uint64_t, uint64_t>, HeapSiteRecord*> sites;
  std::vector<StackId> stacks;
  for (uint64_t number = 1; number <= 40; ++number) {
    Frame frame{number};
    stacks.push_back(ledger_.InternStack({&frame, 1}, WalkEnd::kOutermost));
    for (uint64_t size = 1; size <= 20; ++size) {
      HeapSiteRecord* site = ledger_.FindHeapSite(stacks.back(), Bytes{size});
      ASSERT_EQ(site->stack, stacks.back().value);
      ASSERT_EQ(site->size, size);
      sites[{number, size}] = site;
    }
  }
  for (auto& [key, site] : sites)
    ASSERT_EQ(ledger_.FindHeapSite(stacks[key.first - 1], Bytes{key.second}), site);
  for (StackId stack : stacks) {
    int length = 0;
    for (RecordId id = ledger_.At<StackRecord>(stack.value)->heap_sites; id != 0;
         id = ledger_.At<HeapSiteRecord>(id)->next)
      ++length;
    EXPECT_EQ(length, 4);
  }
}

// Of a stack that is not what its hash says, the sites cannot be shown: they are counted, those in its record as one.
TEST_F(HeapSitesTest, SitesOfADamagedStackAreLeftOutAndCounted) {
  Frame good[] = {Frame{1}}, bad[] = {Frame{2}};
  StackId kept = ledger_.InternStack(good, WalkEnd::kOutermost),
          damaged = ledger_.InternStack(bad, WalkEnd::kOutermost);
  for (uint64_t size = 1; size <= 7; ++size) {  // three in buckets
    Allocate(ledger_.FindHeapSite(kept, Bytes{size}));
    Allocate(ledger_.FindHeapSite(damaged, Bytes{size}));
  }
  ledger_.At<StackRecord>(damaged.value)->frames()[0] = Frame{3};
  uint64_t read = 0;
  LedgerView view = *LedgerView::Over(ledger_.bytes());
  EXPECT_EQ(view.ForEachHeapSite([&](const LedgerView::HeapSite& site) {
    EXPECT_EQ(site.stack_id, kept.value);
    ++read;
  }),
            4u);
  EXPECT_EQ(read, 7u);
}

// A damaged file: a site counts where it says that it belongs, or not at all.
TEST_F(HeapSitesTest, ASiteInAnotherStacksRecordIsLeftOut) {
  HeapSiteRecord *first = Site(10), *second = Site(20);
  Allocate(first);
  Allocate(second);
  ledger_.At<StackRecord>(first->stack)->heap_sites = ledger_.IdOf(second);
  std::vector<uint64_t> read;
  LedgerView view = *LedgerView::Over(ledger_.bytes());
  EXPECT_EQ(view.ForEachHeapSite([&](const LedgerView::HeapSite& site) { read.push_back(site.size); }), 1u);
  EXPECT_EQ(read, std::vector<uint64_t>{20});
}

}  // namespace
}  // namespace profagent
