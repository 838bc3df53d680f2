#include "agent/ledger/live_allocations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

namespace profagent {
namespace {

class LiveAllocationsTest : public testing::Test {
 protected:
  explicit LiveAllocationsTest(uint64_t memory = kLedgerDefaultSize) {
    EXPECT_TRUE(ledger_.CreateAnonymous(Bytes{memory}));
    live_ = std::make_unique<LiveAllocations>();
    live_->Start(&ledger_);
  }
  ~LiveAllocationsTest() override { ledger_.Close(); }

  HeapSiteRecord* Site(uint64_t number) {
    Frame frame = Frame::Of(ModuleId{1}, number);
    return ledger_.FindHeapSite(ledger_.InternStack({&frame, 1}, WalkEnd::kOutermost), Bytes{number});
  }
  static const void* Block(uint64_t address) { return reinterpret_cast<const void*>(address); }

  Ledger ledger_;
  std::unique_ptr<LiveAllocations> live_;
};

// The whole of a heap profile rests on this: a block is found once, with the site it was inserted with, and never again.
TEST_F(LiveAllocationsTest, GivesEachBlockBackOnceWithItsSite) {
  std::mt19937_64 random(7);
  std::unordered_map<uint64_t, HeapSiteRecord*> truth;
  std::vector<HeapSiteRecord*> sites;
  for (uint64_t i = 1; i <= 50; ++i) sites.push_back(Site(i));
  for (int step = 0; step < 400'000; ++step) {
    // Small heap, large heap, mappings: addresses as allocators give them out.
    uint64_t bases[] = {0x5555'5555'0000, 0x7fff'f7c0'0000, 0x7f00'0000'0010};
    uint64_t address = bases[random() % 3] + (random() % 60'000) * 16;
    auto found = truth.find(address);
    if (found != truth.end()) {
      ASSERT_TRUE(live_->MayHold(Block(address)));
      ASSERT_EQ(live_->Take(Block(address)), found->second);
      truth.erase(found);
    } else {
      ASSERT_EQ(live_->Take(Block(address)), nullptr);
      HeapSiteRecord* site = sites[random() % sites.size()];
      ASSERT_TRUE(live_->Insert(Block(address), site));
      truth[address] = site;
    }
  }
  EXPECT_GT(truth.size(), 50'000u);  // several levels were needed
  for (auto& [address, site] : truth) ASSERT_EQ(live_->Take(Block(address)), site);
}

// Addresses that differ only in what a hash might drop (bit 3, the highest bits) must not answer for each other.
TEST_F(LiveAllocationsTest, TellsNearbyAndDistantAddressesApart) {
  std::vector<uint64_t> addresses;
  for (int bit = 3; bit < 47; ++bit) addresses.push_back(0x2aaa'aaaa'aaa0 ^ uint64_t{1} << bit);
  for (size_t i = 0; i < addresses.size(); ++i) ASSERT_TRUE(live_->Insert(Block(addresses[i]), Site(i + 1)));
  EXPECT_EQ(live_->Take(Block(0x2aaa'aaaa'aaa0)), nullptr);
  for (size_t i = 0; i < addresses.size(); ++i) EXPECT_EQ(live_->Take(Block(addresses[i])), Site(i + 1));
}

// What a free costs: with a gigabyte of heap, sampled at 512 KiB, a block that is not in here is nearly always known by one look.
// 2048 of 65536 classes are taken, at most: 3.1 %, and no more when blocks are aligned alike.
TEST_F(LiveAllocationsTest, LooksCloserAtFewBlocksThatAreNotHere) {
  std::mt19937_64 random(3);
  for (uint64_t alignment : {16, 4096, 1 << 16, 1 << 18}) {
    std::vector<uint64_t> blocks;
    auto draw = [&] { return 0x7f12'3400'0000 + random() % (uint64_t{1} << 30) / alignment * alignment; };
    for (int i = 0; i < 2048; ++i) {
      blocks.push_back(draw());
      live_->Take(Block(blocks.back()));  // drawn twice
      ASSERT_TRUE(live_->Insert(Block(blocks.back()), Site(1)));
    }
    std::sort(blocks.begin(), blocks.end());
    int others = 0, closer = 0;
    for (int i = 0; i < 100'000; ++i) {
      uint64_t address = draw();
      if (std::binary_search(blocks.begin(), blocks.end(), address)) continue;
      ++others;
      closer += live_->MayHold(Block(address));
    }
    EXPECT_LT(closer, others / 25) << "aligned to " << alignment;
    for (uint64_t block : blocks) live_->Take(Block(block));
  }
}

// What lies together in the heap lies together in the table: a program that goes through its blocks meets few cache lines.
TEST_F(LiveAllocationsTest, NeighboursShareACacheLine) {
  HeapSiteRecord* site = Site(1);
  for (uint64_t i = 0; i < 512; ++i)
    ASSERT_TRUE(live_->Insert(Block(0x5555'5555'0000 + i * 32), site));  // 16 KiB
  auto* words = ledger_.At<uint64_t>(ledger_.header()->live_levels[0]);
  int lines = 0;
  for (int line = 0; line < 1024; ++line) {
    lines +=
        std::any_of(words + line * 8, words + line * 8 + 8, [](uint64_t word) { return word != 0; }) ? 1 : 0;
  }
  EXPECT_LE(lines, 65);
}

// Large blocks lie at the same place in mappings of the same size: they must not meet in a few buckets.
TEST_F(LiveAllocationsTest, SpreadsBlocksThatAreAlignedAlike) {
  HeapSiteRecord* site = Site(1);
  for (uint64_t distance :
       {uint64_t{1} << 12, uint64_t{1} << 16, uint64_t{1} << 20, uint64_t{1} << 26, uint64_t{0x21000}}) {
    for (uint64_t i = 0; i < 40'000; ++i)
      ASSERT_TRUE(live_->Insert(Block(0x7f00'0000'0010 + i * distance), site));
    for (uint64_t i = 0; i < 40'000; ++i) {
      ASSERT_EQ(live_->Take(Block(0x7f00'0000'0010 + i * distance)), site) << distance;
    }
    EXPECT_EQ(ledger_.header()->live_levels[4].load(), 0u) << distance;  // 2 ^ 18 buckets
  }
}

// Allocators with classes of 8 and 16 bytes put up to 32 blocks where a table of neighbours has room for 8.
TEST_F(LiveAllocationsTest, SpreadsSmallBlocksThatLieTogether) {
  HeapSiteRecord* site = Site(1);
  for (uint64_t distance : {8, 16, 24, 32, 48}) {
    for (uint64_t i = 0; i < 100'000; ++i)
      ASSERT_TRUE(live_->Insert(Block(0x7f00'0000'0000 + i * distance), site)) << distance;
    for (uint64_t i = 0; i < 100'000; ++i)
      ASSERT_EQ(live_->Take(Block(0x7f00'0000'0000 + i * distance)), site) << distance;
    EXPECT_EQ(ledger_.header()->live_levels[4].load(), 0u) << distance;
  }
}

// What the default memory holds at a sample for each block: the index takes 85 MiB of it.
TEST_F(LiveAllocationsTest, HoldsMillionsOfSmallBlocks) {
  HeapSiteRecord* site = Site(1);
  for (uint64_t distance : {24, 32}) {
    for (uint64_t i = 0; i < 3'000'000; ++i)
      ASSERT_TRUE(live_->Insert(Block(0x5555'5555'0000 + i * distance), site)) << distance << ' ' << i;
    for (uint64_t i = 0; i < 3'000'000; ++i)
      ASSERT_EQ(live_->Take(Block(0x5555'5555'0000 + i * distance)), site) << distance << ' ' << i;
  }
}

// What is scrambled stays one to one: of so many stretches of heap, some come to lie next to each other.
TEST_F(LiveAllocationsTest, NoBlockAnswersForOneOfAnotherStretch) {
  HeapSiteRecord* site = Site(1);
  std::mt19937_64 random(3);
  std::set<uint64_t> blocks;
  while (blocks.size() < 60'000) blocks.insert(random() % (1 << 29) << 18);  // 256 KiB each, in 2 ^ 47 bytes
  for (uint64_t block : blocks) ASSERT_TRUE(live_->Insert(Block(block), site));
  for (uint64_t block : blocks) {
    for (uint64_t word = 1; word < 32; ++word) ASSERT_EQ(live_->Take(Block(block + word * 8)), nullptr);
  }
  for (uint64_t block : blocks) ASSERT_EQ(live_->Take(Block(block)), site);
}

// A long-lived process allocates and frees for months: places must be used again, not pile up.
TEST_F(LiveAllocationsTest, NeedsNoMoreRoomForBlocksThatComeAndGo) {
  HeapSiteRecord* site = Site(1);
  for (uint64_t round = 0; round < 200; ++round) {
    for (uint64_t i = 0; i < 2000; ++i)
      ASSERT_TRUE(live_->Insert(Block(0x10000 + (round * 2000 + i) * 48), site));
    for (uint64_t i = 0; i < 2000; ++i)
      ASSERT_EQ(live_->Take(Block(0x10000 + (round * 2000 + i) * 48)), site);
  }
  EXPECT_LT(ledger_.header()->used.load(), uint64_t{2} << 20);
}

TEST_F(LiveAllocationsTest, SharesAmongThreadsWithoutLoss) {
  HeapSiteRecord* site = Site(1);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<uint64_t> mine;
      for (int i = 0; i < 100'000; ++i) {
        if (mine.size() > 500 || (!mine.empty() && random() % 2 == 0)) {
          if (live_->Take(Block(mine.back())) != site) ++wrong;
          mine.pop_back();
        } else {
          mine.push_back(0x7f00'0000'0000 +
                         ((random() % (1 << 24)) * 4 + t) * 16);  // classes are shared, keys are not
          if (std::find(mine.begin(), mine.end() - 1, mine.back()) != mine.end() - 1) {
            mine.pop_back();
          } else if (!live_->Insert(Block(mine.back()), site)) {
            ++wrong;
          }
        }
      }
      for (uint64_t block : mine) {
        if (live_->Take(Block(block)) != site) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0u);
}

class SmallLiveAllocationsTest : public LiveAllocationsTest {
 protected:
  SmallLiveAllocationsTest() : LiveAllocationsTest(kLedgerMinSize) {}
};

// Too little memory costs samples, and each is counted; what is kept stays right.
TEST_F(SmallLiveAllocationsTest, SaysWhenThereIsNoRoomAndKeepsTheRest) {
  HeapSiteRecord* site = Site(1);
  std::vector<uint64_t> kept;
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    uint64_t address = 0x7f12'3450'0000 + i * 32;
    if (live_->Insert(Block(address), site)) {
      kept.push_back(address);
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
  EXPECT_GT(kept.size(), 5'000u);
  EXPECT_EQ(ledger_.header()->losses[static_cast<uint32_t>(Loss::kLiveTableFull)].load(), refused);
  for (uint64_t address : kept) ASSERT_EQ(live_->Take(Block(address)), site);
  // Nor do those that were refused make every later free look closer.
  for (uint64_t i = 0; i < 100'000; ++i) ASSERT_FALSE(live_->MayHold(Block(0x7f12'3450'0000 + i * 32)));
}

// A child starts with nothing of its parent's; blocks that it inherited are simply not in it.
TEST_F(LiveAllocationsTest, IsEmptyAfterFork) {
  for (uint64_t i = 1; i <= 20'000; ++i) ASSERT_TRUE(live_->Insert(Block(0x4000 * i), Site(1)));
  ASSERT_NE(ledger_.header()->live_levels[1].load(), 0u);
  Ledger child;
  ASSERT_TRUE(child.CreateAnonymous(Bytes{kLedgerMinSize}));
  ledger_.Close();
  ledger_ = child;
  live_->RestartAfterFork();
  EXPECT_FALSE(live_->MayHold(Block(0x4000)));
  EXPECT_EQ(live_->Take(Block(0x4000)), nullptr);
  ASSERT_TRUE(live_->Insert(Block(0x4000), Site(2)));
  EXPECT_EQ(live_->Take(Block(0x4000)), Site(2));
  EXPECT_NE(ledger_.header()->live_levels[0].load(), 0u);
  EXPECT_EQ(ledger_.header()->live_levels[1].load(), 0u);  // it begins small again
}

}  // namespace
}  // namespace profagent
