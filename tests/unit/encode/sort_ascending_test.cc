#include "agent/encode/sort_ascending.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace profagent {
namespace {

std::vector<uint64_t> Sorted(std::vector<uint64_t> values) {
  Arena arena;
  EXPECT_TRUE(SortAscending(std::span(values), arena));
  return values;
}

TEST(SortAscending, SortsByEveryByteThatDiffers) {
  std::minstd_rand random(20261130);
  // All bytes; an odd and an even number of them, low, high and apart; few values, many of them equal.
  for (uint64_t bits :
       {~uint64_t{0}, uint64_t{0xff}, uint64_t{0xffff}, uint64_t{0xffff'ff00'0000'0000},
        uint64_t{0xff00'0000'0000'00ff}, uint64_t{0x00f0'0000'0f00}, uint64_t{0x8000'0000'0000'0001}}) {
    for (size_t count : {1, 2, 3, 255, 256, 257, 5000}) {
      std::vector<uint64_t> values(count);
      for (uint64_t& value : values)
        value = ((uint64_t{random()} << 40 ^ uint64_t{random()} << 20 ^ random()) & bits) | 0x100;
      std::vector<uint64_t> right = values;
      std::sort(right.begin(), right.end());
      ASSERT_EQ(Sorted(values), right) << std::hex << bits << ", " << std::dec << count;
    }
  }
}

TEST(SortAscending, NeedsNoMemoryForWhatIsAllEqual) {
  Arena none(0);
  std::vector<uint64_t> values(100, 7), no_values;
  EXPECT_TRUE(SortAscending(std::span(values), none));
  EXPECT_TRUE(SortAscending(std::span(no_values), none));
}

TEST(SortAscending, WithoutMemoryLeavesThemAsTheyStood) {
  Arena none(0);
  std::vector<uint64_t> values = {3, 1, 2};
  EXPECT_FALSE(SortAscending(std::span(values), none));
  EXPECT_EQ(values, (std::vector<uint64_t>{3, 1, 2}));
}

}  // namespace
}  // namespace profagent
