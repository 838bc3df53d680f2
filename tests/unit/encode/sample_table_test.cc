#include "agent/encode/sample_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace profagent {
namespace {

using Plain =
    std::tuple<uint64_t, std::vector<uint64_t>, std::string>;  // ~weight, frames from the root, thread name

std::vector<Plain> RowsOf(SampleTable& table) {
  std::vector<Plain> rows;
  for (const SampleRow& row : table.rows()) {
    std::vector<uint64_t> from_root;
    for (size_t i = row.depth; i-- > 0;) from_root.push_back(row.frames[i].value);
    rows.emplace_back(~row.weight, from_root, std::string(row.name()));
  }
  return rows;
}

// The partition by single frames must give the order that comparing whole samples gives.
TEST(SampleTable, SortsByValueThenStackFromTheRootThenName) {
  std::mt19937_64 random(11);
  for (uint64_t frames : {1, 2, 5, 1000}) {
    Arena arena;
    SampleTable table(arena);
    std::deque<std::vector<Frame>> stacks;
    for (int i = 0; i < 3000; ++i) {
      std::vector<Frame>& stack = stacks.emplace_back();
      for (size_t depth = 1 + random() % 12; depth > 0; --depth) stack.push_back(Frame{random() % frames});
      static constexpr std::string_view kNames[] = {"", "a", "ab", "b"};
      table.Add(stack, kNames[random() % 4], 1 + random() % 3);
    }
    table.Sort();
    std::vector<Plain> rows = RowsOf(table), sorted = rows;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(rows, sorted);
    EXPECT_EQ(std::adjacent_find(rows.begin(), rows.end()), rows.end());
  }
}

TEST(SampleTable, AddsUpEqualSamplesWithoutWrappingRound) {
  Arena arena;
  SampleTable table(arena);
  Frame frames[] = {Frame{1}, Frame{2}};
  table.Add(frames, "t", 5);
  table.Add(frames, "t", 6);
  table.Add(frames, "t", 0);
  ASSERT_EQ(table.rows().size(), 1u);
  EXPECT_EQ(table.rows()[0].weight, 11u);
  table.Add(frames, "t", UINT64_MAX);
  EXPECT_EQ(table.rows()[0].weight, UINT64_MAX);
}

TEST(SampleTable, CountsWhatItHasNoMemoryFor) {
  Arena arena(64 << 10);
  SampleTable table(arena);
  std::deque<Frame> frames;
  for (uint64_t i = 0; i < 10000; ++i) table.Add({&frames.emplace_back(Frame{i}), 1}, "", 1);
  EXPECT_GT(table.left_out(), 0u);
  EXPECT_EQ(table.rows().size() + table.left_out(), 10000u);
  table.Sort();
  EXPECT_EQ(table.rows()[0].frames[0], Frame{0});
}

}  // namespace
}  // namespace profagent
