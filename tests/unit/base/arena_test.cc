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

// The last one of those that share a block grows where it stands, up to the block's end and no further; another one moves.
TEST(Arena, ExtendsTheLastArrayOfABlockInPlace) {
  constexpr size_t kBlock = 64 << 10;
  for (bool beside : {false, true}) {  // a large one, whose memory is its own, changes nothing
    Arena arena;
    auto* array = static_cast<char*>(arena.Allocate(100));
    ASSERT_EQ(arena.taken(), kBlock);
    const auto block = reinterpret_cast<uintptr_t>(array) & ~uintptr_t{4095};
    const size_t most = block + kBlock - reinterpret_cast<uintptr_t>(array);
    void* large = beside ? arena.Allocate(1 << 20) : nullptr;
    const size_t taken = arena.taken();
    std::memset(array, 1, 100);
    ASSERT_EQ(arena.Extend(array, 100, 1000), array);
    std::memset(array + 100, 1, 900);
    auto* next = static_cast<char*>(arena.Allocate(10));
    ASSERT_EQ(next, array + 1008);  // right behind, aligned
    std::memset(next, 2, 10);
    arena.GiveBack(large);
    auto* moved = static_cast<char*>(arena.Extend(array, 1000, 2000));
    ASSERT_EQ(moved, array + 1024);
    EXPECT_TRUE(std::all_of(moved, moved + 1000, [](char c) { return c == 1; }));
    EXPECT_TRUE(std::all_of(moved + 1000, moved + 2000, [](char c) { return c == 0; }));
    ASSERT_EQ(arena.Extend(moved, 2000, most - 1024), moved);  // all that is left
    EXPECT_EQ(arena.taken(), beside ? taken - (1 << 20) - 4096 : taken);
    std::memset(moved + 1000, 1, most - 1024 - 1000);
    auto* other = static_cast<char*>(arena.Extend(moved, most - 1024, most - 1024 + 1));
    ASSERT_NE(other, nullptr);
    EXPECT_NE(other, moved);
    EXPECT_TRUE(std::all_of(other, other + most - 1024, [](char c) { return c == 1; }));
    EXPECT_EQ(other[most - 1024], 0);
    EXPECT_TRUE(std::all_of(next, next + 10, [](char c) { return c == 2; }));
  }
}

// What was taken last need not be on a boundary; what is taken next is. An array of no bytes can be extended, too.
TEST(Arena, ExtendsWhatIsOfAnySize) {
  Arena arena;
  std::mt19937_64 random(4);
  std::vector<std::pair<unsigned char*, size_t>> arrays;
  auto filling = [](size_t array, size_t at) { return static_cast<unsigned char>(array * 7 + at % 13 + 1); };
  for (int i = 0; i < 3000; ++i) {
    size_t which = random() % 12;
    if (which >= arrays.size()) {
      arrays.emplace_back(static_cast<unsigned char*>(arena.Allocate(0)), 0);
      which = arrays.size() - 1;
    }
    auto& [array, size] = arrays[which];
    size_t wanted = size + random() % (i % 50 == 0 ? 30'000 : 100);
    array = static_cast<unsigned char*>(arena.Extend(array, size, wanted));
    ASSERT_NE(array, nullptr);
    for (; size < wanted; ++size) {
      ASSERT_EQ(array[size], 0);
      array[size] = filling(which, size);
    }
  }
  for (size_t which = 0; which < arrays.size(); ++which) {
    auto [array, size] = arrays[which];
    for (size_t at = 0; at < size; ++at) ASSERT_EQ(array[at], filling(which, at)) << which << ", " << at;
  }
}

}  // namespace
}  // namespace profagent
