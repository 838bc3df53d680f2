#include "agent/base/arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <vector>

namespace profagent {
namespace {

TEST(Arena, GivesZeroedAlignedMemoryThatDoesNotOverlap) {
  Arena arena;
  std::mt19937_64 random(3);
  std::vector<std::pair<char*, size_t>> pieces;
  for (int i = 0; i < 2000; ++i) {
    size_t size = random() % (i % 100 == 0 ? 600'000 : 500);
    size_t alignment = size_t{1} << random() % 7;
    auto* piece = static_cast<char*>(arena.Allocate(size, alignment));
    ASSERT_NE(piece, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece) % alignment, 0u);
    EXPECT_TRUE(std::all_of(piece, piece + size, [](char c) { return c == 0; }));
    std::memset(piece, i, size);
    pieces.emplace_back(piece, size);
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    auto [piece, size] = pieces[i];
    EXPECT_TRUE(std::all_of(piece, piece + size, [&](char c) { return c == static_cast<char>(i); })) << i;
  }
}

TEST(Arena, StaysBelowItsLimitAndGoesOnWithWhatFits) {
  Arena arena(1 << 20);
  EXPECT_EQ(arena.Allocate(2 << 20), nullptr);
  EXPECT_NE(arena.Allocate(800 << 10), nullptr);
  EXPECT_EQ(arena.Allocate(400 << 10), nullptr);
  EXPECT_NE(arena.Allocate(100 << 10), nullptr);
  while (arena.Allocate(64) != nullptr) {
  }
  EXPECT_LE(arena.taken(), size_t{1} << 20);
  EXPECT_GT(arena.taken(), size_t{900} << 10);
}

TEST(Arena, HoldsBackWhatIsForLater) {
  Arena arena(1 << 20);
  arena.HoldBack(200 << 10);
  EXPECT_NE(arena.Allocate(600 << 10), nullptr);
  EXPECT_EQ(arena.Allocate(300 << 10), nullptr);
  while (arena.Allocate(64) != nullptr) {
  }
  EXPECT_LE(arena.taken(), size_t{824} << 10);
  EXPECT_EQ(arena.Allocate(180 << 10), nullptr);
  arena.HoldBack(0);
  EXPECT_NE(arena.Allocate(180 << 10), nullptr);
}

// The encoder's big arrays must not throw away what is left of a block.
TEST(Arena, FillsABlockUpBesideLargeArrays) {
  Arena arena;
  auto* first = static_cast<char*>(arena.Allocate(16));
  ASSERT_NE(arena.Allocate(1 << 20), nullptr);
  EXPECT_EQ(static_cast<char*>(arena.Allocate(16)), first + 16);
}

TEST(Arena, RefusesSizesThatOverflow) {
  Arena arena;
  EXPECT_EQ(arena.Allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(arena.Allocate(SIZE_MAX / 2), nullptr);
  EXPECT_EQ(arena.AllocateArray<uint64_t>(SIZE_MAX / 8 + 2), nullptr);
  EXPECT_NE(arena.AllocateArray<uint64_t>(1), nullptr);
}

// What lies together is given back at once: nothing may stay, and nobody else's may go.
TEST(Arena, GivesBackItsOwnMemoryAndNoOther) {
  Arena arena;
  std::vector<char*> own, others;
  for (int i = 0; i < 200; ++i) {
    own.push_back(static_cast<char*>(arena.Allocate(20'000)));
    ASSERT_NE(own.back(), nullptr);
    if (i % 7 != 0) continue;
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    others.push_back(static_cast<char*>(page));
    *others.back() = 'x';
  }
  arena.Release();
  auto is_mapped = [](char* at) {
    unsigned char resident;
    auto page = reinterpret_cast<uintptr_t>(at) & ~uintptr_t{4095};
    return mincore(reinterpret_cast<void*>(page), 1, &resident) == 0 || errno != ENOMEM;
  };
  for (char* piece : own) EXPECT_FALSE(is_mapped(piece));
  for (char* page : others) {
    ASSERT_TRUE(is_mapped(page));
    EXPECT_EQ(*page, 'x');
    munmap(page, 4096);
  }
}

// An array that grows must not take its size twice, whether it was small or large before.
TEST(Arena, ExtendsArraysAndTakesWhatIsNewOnly) {
  Arena arena(8 << 20);
  size_t size = 1000;
  auto* array = static_cast<unsigned char*>(arena.Allocate(size));
  auto* beside = static_cast<unsigned char*>(arena.Allocate(100));
  std::fill_n(beside, 100, 0xbb);
  for (size_t i = 0; i < size; ++i) array[i] = static_cast<unsigned char>(i % 251);
  for (size_t wanted = 3000; wanted < 7u << 20; size = wanted, wanted += wanted / 2) {
    auto* longer = static_cast<unsigned char*>(arena.Extend(array, size, wanted));
    ASSERT_NE(longer, nullptr) << wanted;
    array = longer;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(array) % 16, 0u);
    EXPECT_TRUE(std::all_of(array + size, array + wanted, [](unsigned char c) { return c == 0; })) << wanted;
    for (size_t i = size; i < wanted; ++i) array[i] = static_cast<unsigned char>(i % 251);
  }
  for (size_t i = 0; i < size; ++i) ASSERT_EQ(array[i], i % 251) << i;
  EXPECT_TRUE(std::all_of(beside, beside + 100, [](unsigned char c) { return c == 0xbb; }));
  EXPECT_EQ(arena.Extend(array, size, 8 << 20), nullptr);  // with what is beside it more than the limit
  EXPECT_EQ(array[size - 1], (size - 1) % 251);
  EXPECT_EQ(arena.Extend(array, size, SIZE_MAX - 100), nullptr);
}

TEST(Arena, TakesLargeArraysBack) {
  Arena arena(4 << 20);
  void* small = arena.Allocate(100);
  for (int i = 0; i < 20; ++i) {
    void* large = arena.Allocate(2 << 20);
    ASSERT_NE(large, nullptr) << i;
    std::memset(large, 1, 2 << 20);
    void* other = arena.Allocate(3 << 19);
    ASSERT_NE(other, nullptr) << i;
    arena.GiveBack(large);
    arena.GiveBack(other);
    arena.GiveBack(small);
    arena.GiveBack(nullptr);
    std::memset(small, 1, 100);
  }
  EXPECT_LE(arena.taken(), size_t{64} << 10);
}

TEST(Arena, CanBeUsedAgainAfterRelease) {
  Arena arena(300 << 10);
  EXPECT_NE(arena.Allocate(200 << 10), nullptr);
  EXPECT_EQ(arena.Allocate(200 << 10), nullptr);
  arena.Release();
  EXPECT_EQ(arena.taken(), 0u);
  EXPECT_NE(arena.Allocate(200 << 10), nullptr);
}

}  // namespace
}  // namespace profagent
