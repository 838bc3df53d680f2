#include "agent/unwind/recipe_cache.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace profagent {
namespace {

class RecipeCacheTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(cache_.Start()); }
  void TearDown() override { cache_.Stop(); }
  static Recipe Some(uint64_t i) { return Recipe(static_cast<uint64_t>(RecipeKind::kPlain) | i << 7); }
  static ModuleId Module(uint64_t i) { return static_cast<ModuleId>(i % 8000); }
  RecipeCache cache_;
};

TEST_F(RecipeCacheTest, GivesBackWhatWasInserted) {
  EXPECT_EQ(cache_.Find(0x401000).recipe.kind(), RecipeKind::kNone);
  cache_.Insert(0x401000, Some(3), Module(7), cache_.generation());
  EXPECT_EQ(cache_.Find(0x401000).recipe, Some(3));
  EXPECT_EQ(cache_.Find(0x401000).module, Module(7));
  EXPECT_EQ(cache_.Find(0x401001).recipe.kind(), RecipeKind::kNone);
}

// Another address's rule would send the walk astray: a slot must stand for one address only.
TEST_F(RecipeCacheTest, NeverMistakesOneAddressForAnother) {
  uint64_t state = 1;
  std::vector<uint64_t> addresses;
  for (int i = 0; i < 200'000; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    uint64_t address = state >> 17;                                           // 47 bits
    if (i % 2 == 0) address = 0x7f0000000000 + static_cast<uint64_t>(i) * 4;  // and neighbours
    addresses.push_back(address);
    cache_.Insert(address, Some(address % 1000), Module(address % 997), cache_.generation());
  }
  size_t present = 0;
  for (uint64_t address : addresses) {
    RecipeCache::Hit hit = cache_.Find(address);
    if (hit.recipe.kind() == RecipeKind::kNone) continue;
    ++present;
    ASSERT_EQ(hit.recipe, Some(address % 1000));
    ASSERT_EQ(hit.module, Module(address % 997));
  }
  EXPECT_GT(present, 60'000u);  // of 73 728 slots
  EXPECT_EQ(cache_.Find(uint64_t{1} << 47 | addresses.back()).recipe.kind(), RecipeKind::kNone);
}

TEST_F(RecipeCacheTest, SharesEqualRecipes) {
  for (uint64_t i = 0; i < 1000; ++i) cache_.Insert(0x1000 + i, Some(i % 5), Module(1), cache_.generation());
  EXPECT_EQ(cache_.distinct_recipes(), 5u);
}

TEST_F(RecipeCacheTest, KeepsServingWhenTheRecipeTableIsFull) {
  for (uint64_t i = 0; i < 20'000; ++i) cache_.Insert(0x1000 + i, Some(i), Module(1), cache_.generation());
  EXPECT_LE(cache_.distinct_recipes(), 16'383u);
  cache_.Insert(0x900000, Some(1), Module(1), cache_.generation());
  EXPECT_EQ(cache_.Find(0x900000).recipe, Some(1));
}

TEST_F(RecipeCacheTest, ForgetsEverythingAtWipe) {
  uint32_t before = cache_.generation();
  cache_.Insert(0x1000, Some(1), Module(1), before);
  cache_.Wipe();
  EXPECT_EQ(cache_.Find(0x1000).recipe.kind(), RecipeKind::kNone);
  // A walk that decoded before the library was closed and inserts after.
  cache_.Insert(0x1000, Some(1), Module(1), before);
  EXPECT_EQ(cache_.Find(0x1000).recipe.kind(), RecipeKind::kNone);
}

// Far lines are wiped only when one of them was used: more addresses than the near lines hold must be forgotten, too.
TEST_F(RecipeCacheTest, ForgetsWhatFoundItsNearLineFull) {
  constexpr uint64_t kMany = 30'000;
  for (uint64_t i = 0; i < kMany; ++i)
    cache_.Insert(0x401000 + i, Some(i % 9), Module(1), cache_.generation());
  auto present = [&] {
    size_t count = 0;
    for (uint64_t i = 0; i < kMany; ++i)
      count += cache_.Find(0x401000 + i).recipe.kind() != RecipeKind::kNone;
    return count;
  };
  EXPECT_GT(present(), 20'000u);  // the near lines have 8192 slots
  cache_.Wipe();
  // A far line is asked only when its near one is full.
  for (uint64_t i = 0; i < kMany; ++i)
    cache_.Insert(0x801000 + i, Some(i % 9), Module(1), cache_.generation());
  EXPECT_EQ(present(), 0u);
}

TEST_F(RecipeCacheTest, ServesThreadsThatInsertAndWipe) {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      uint64_t state = static_cast<uint64_t>(t) + 1;
      while (!stop) {
        state = state * 6364136223846793005 + 1442695040888963407;
        uint64_t address = 0x7f0000000000 + (state >> 40) % 20'000;
        RecipeCache::Hit hit = cache_.Find(address);
        if (hit.recipe.kind() == RecipeKind::kNone) {
          cache_.Insert(address, Some(address % 100), Module(address % 50), cache_.generation());
        } else if (hit.recipe != Some(address % 100) || hit.module != Module(address % 50)) {
          ++wrong;
        }
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    cache_.Wipe();
    std::this_thread::yield();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace profagent
