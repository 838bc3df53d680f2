#include "agent/encode/sample_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace profagent {
namespace {

bool NoFrame(Frame) { return false; }

// Equal samples may stand anywhere, and are added up where the first of them stands.
TEST(SampleTable, SortsByValueThenByPlaceThenByKey) {
  using Plain = std::tuple<uint64_t, size_t, uint64_t, std::string>;  // ~weight, place, size, name
  std::mt19937_64 random(11);
  for (uint64_t frames : {1, 2, 5, 1000}) {
    std::vector<std::vector<Frame>> stacks(3000);
    std::map<std::vector<uint64_t>, size_t> place_of;
    std::vector<size_t> same_as;
    std::vector<Frame> memory(3000 * 12);
    for (size_t i = 0; i < 3000; ++i) {
      std::vector<uint64_t> values(1 + random() % 12);
      for (uint64_t& value : values) value = random() % frames;
      for (size_t k = 0; k < values.size(); ++k) memory[i * 12 + k] = Frame{values[k]};
      stacks[i].resize(values.size());
      same_as.push_back(place_of.emplace(values, i).first->second);
    }
    std::vector<size_t> order(3000);
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    Arena arena;
    SampleTable table(arena);
    std::map<std::tuple<size_t, uint64_t, std::string>, uint64_t> sums;
    for (size_t i : order) {
      static constexpr std::string_view kNames[] = {"", "a", "ab", "b"};
      std::string_view name = kNames[random() % 4];
      uint64_t size = random() % 2, weight = 1 + random() % 3;
      table.Add({&memory[i * 12], stacks[i].size()}, {name, size}, {.weight = weight});
      sums[{i, size, std::string(name)}] += weight;
    }
    // What is the same goes to the first place that has it, with that key.
    std::map<std::tuple<size_t, uint64_t, std::string>, std::pair<size_t, uint64_t>> rows;
    for (auto& [key, weight] : sums) {
      auto [place, size, name] = key;
      auto& row = rows.try_emplace({same_as[place], size, name}, place, 0).first->second;
      row.second += weight;
    }
    std::vector<Plain> expected, found;
    for (auto& [key, row] : rows)
      expected.emplace_back(~row.second, row.first, std::get<1>(key), std::get<2>(key));
    std::sort(expected.begin(), expected.end());
    table.Finish(NoFrame);
    for (const SampleRow& row : table.rows()) {
      found.emplace_back(~row.counts.weight, static_cast<size_t>(row.recorded - memory.data()) / 12,
                         row.key.size, std::string(row.key.name));
    }
    EXPECT_EQ(found, expected);
  }
}

TEST(SampleTable, AddsUpEqualSamplesWithoutWrappingRound) {
  Arena arena;
  SampleTable table(arena);
  Frame frames[] = {Frame{1}, Frame{2}};
  table.Add(frames, {"t"}, {.weight = 5, .first = 1, .second = 3});
  table.Add(frames, {"u"}, {.weight = 2});
  table.Add(frames, {"t"}, {.weight = 6, .first = UINT64_MAX, .second = 4});
  table.Add(frames, {"v"}, {.weight = 0});
  table.Add(frames, {"u", 1}, {.weight = UINT64_MAX - 1});
  table.Add(frames, {"u", 1}, {.weight = 2});
  table.Finish(NoFrame);
  ASSERT_EQ(table.rows().size(), 3u);
  EXPECT_EQ(table.rows()[0].counts.weight, UINT64_MAX);
  EXPECT_EQ(table.rows()[1].counts.weight, 11u);
  EXPECT_EQ(table.rows()[1].counts.first, UINT64_MAX);
  EXPECT_EQ(table.rows()[1].counts.second, 7u);
  EXPECT_EQ(table.rows()[2].counts.weight, 2u);
}

TEST(SampleTable, CountsWhatItHasNoMemoryFor) {
  Arena arena(64 << 10);
  SampleTable table(arena);
  std::vector<Frame> frames;
  for (uint64_t i = 0; i < 10000; ++i) frames.push_back(Frame{i});
  for (const Frame& frame : frames) table.Add({&frame, 1}, {}, {.weight = 1});
  EXPECT_GT(table.left_out(), 0u);
  EXPECT_EQ(table.rows().size() + table.left_out(), 10000u);
  table.Finish(NoFrame);
  EXPECT_EQ(table.rows()[0].stack[0], Frame{0});
}

// Go hides its allocator's frames at the leaf of a heap profile's stacks, and nowhere else.
TEST(SampleTable, HidesLeavesButNeverAWholeStack) {
  Arena arena;
  SampleTable table(arena);
  Frame stack[] = {Frame{5}, Frame{3}, Frame{7}, Frame{3}, Frame{9}};
  Frame same[] = {Frame{7}, Frame{3}, Frame{9}};
  Frame all[] = {Frame{3}, Frame{5}};
  table.Add(stack, {}, {.weight = 1});
  table.Add(same, {}, {.weight = 2});
  table.Add(all, {}, {.weight = 1});
  table.Finish([](Frame frame) { return frame == Frame{3} || frame == Frame{5}; });
  ASSERT_EQ(table.rows().size(), 2u);
  EXPECT_EQ(table.rows()[0].counts.weight, 3u);
  EXPECT_EQ(table.rows()[0].stack, ShownStack(same));
  EXPECT_EQ(table.rows()[1].stack, ShownStack(all));
}

Frame In(ModuleId module, uint64_t offset) { return Frame::Of(module, offset); }

TEST(SampleTable, LeavesTheHiddenModuleOutWhereverItStands) {
  constexpr ModuleId kHidden{2}, kShown{1};
  const Frame a = In(kShown, 1), b = In(kShown, 2), c = In(kShown, 3), x = In(kHidden, 1), y = In(kHidden, 2);
  const std::vector<Frame> same[] = {{a, b, c},    {x, a, b, c},    {a, x, y, b, c},
                                     {a, b, c, x}, {a, x, b, y, c}, {x, a, x, b, x, c, x}};
  Arena arena;
  SampleTable table(arena);
  table.HideModule(kHidden);
  for (const std::vector<Frame>& stack : same) table.Add(stack, {}, {.weight = 1});
  const Frame other[] = {a, c}, only_hidden[] = {x, y};
  table.Add(other, {}, {.weight = 3});
  table.Add(only_hidden, {}, {.weight = 1});
  table.Finish(NoFrame);
  ASSERT_EQ(table.rows().size(), 3u);
  EXPECT_EQ(table.rows()[0].counts.weight, std::size(same));
  EXPECT_EQ(table.rows()[0].stack, ShownStack(same[0]));
  EXPECT_EQ(table.rows()[0].stack.FromRoot(0), c);
  EXPECT_EQ(table.rows()[1].stack, ShownStack(other));
  EXPECT_EQ(table.rows()[2].stack, ShownStack(only_hidden));
}

// A full ledger of a program with threads has the frame under which they start in every stack.
TEST(SampleTable, HidingTakesNoMemory) {
  constexpr uint64_t kStacks = 40'000;
  constexpr size_t kMemory =
      kStacks * (sizeof(SampleRow) * 5 / 4 + 2 * 8) + (1 << 20);  // rows and their index
  std::deque<std::vector<Frame>> stacks;
  for (uint64_t i = 0; i < kStacks; ++i) {
    std::vector<Frame>& stack = stacks.emplace_back();
    for (uint64_t depth = 0; depth < 40; ++depth) stack.push_back(In(ModuleId{1}, i + depth));
    stack[38] = In(ModuleId{2}, 1);
  }
  Arena arena(kMemory);
  SampleTable table(arena);
  table.HideModule(ModuleId{2});
  for (const std::vector<Frame>& stack : stacks) table.Add(stack, {}, {.weight = 1});
  table.Finish(NoFrame);
  EXPECT_EQ(table.left_out(), 0u);
  EXPECT_EQ(table.rows().size(), kStacks);
  EXPECT_EQ(table.rows()[0].stack.size(), 39u);
}

// Hidden frames must not make the deepest stacks shorter than PROFAGENT_MAXDEPTH says.
TEST(SampleTable, CutsAfterHiding) {
  Arena arena;
  SampleTable table(arena);
  table.CutAt(3);
  Frame fits[] = {Frame{1}, Frame{2}, Frame{3}, Frame{4}};
  Frame deep[] = {Frame{1}, Frame{2}, Frame{3}, Frame{4}, Frame{5}};
  table.Add(fits, {}, {.weight = 2});
  table.Add(deep, {}, {.weight = 1});
  table.Finish([](Frame frame) { return frame == Frame{1}; });
  ASSERT_EQ(table.rows().size(), 2u);
  EXPECT_EQ(table.rows()[0].stack.size(), 3u);
  EXPECT_EQ(table.rows()[0].stack[2], Frame{4});
  EXPECT_EQ(table.rows()[1].stack.size(), 3u);
  EXPECT_EQ(table.rows()[1].stack[2], MakeSynthetic(SyntheticFrame::kTruncated));
}

// Leaves are removed before what is hidden, across it, and behind it.
TEST(ShownStack, RemovesLeavesOnBothSidesOfWhatIsHidden) {
  Frame frames[8];
  for (uint64_t i = 0; i < std::size(frames); ++i) frames[i] = Frame{100 + i};
  for (size_t before = 0; before <= 8; ++before) {
    for (size_t hidden = 0; before + hidden <= 8; ++hidden) {
      std::vector<Frame> all(frames, frames + before);
      all.insert(all.end(), frames + before + hidden, std::end(frames));
      for (size_t first = 0; first < all.size(); ++first) {
        for (size_t second = 0; first + second < all.size(); ++second) {
          ShownStack stack(frames, before, hidden);
          stack.RemoveLeaves(static_cast<uint32_t>(first));
          stack.RemoveLeaves(static_cast<uint32_t>(second));
          std::vector<Frame> left(all.begin() + static_cast<long>(first + second), all.end());
          ASSERT_EQ(stack.size(), left.size());
          for (uint32_t i = 0; i < stack.size(); ++i) {
            EXPECT_EQ(stack[i], left[i]) << before << " " << hidden << " " << first << " " << second;
            EXPECT_EQ(stack.FromRoot(i), left[left.size() - 1 - i]);
          }
          EXPECT_EQ(stack, ShownStack(left));
        }
      }
    }
  }
}

// A leaf that is hidden, a frame of the agent behind it, another leaf that is hidden: what is left is what was without them.
TEST(SampleTable, HidesLeavesAroundFramesOfTheHiddenModule) {
  Arena arena;
  SampleTable table(arena);
  table.HideModule(ModuleId{2});
  const Frame leaf = Frame::Of(ModuleId{1}, 1), a = Frame::Of(ModuleId{1}, 5), b = Frame::Of(ModuleId{1}, 6),
              agent = Frame::Of(ModuleId{2}, 1);
  const std::vector<Frame> same[] = {{leaf, agent, leaf, a, b},
                                     {agent, leaf, a, agent, b},
                                     {leaf, agent, a, b},
                                     {leaf, a, agent, b},
                                     {a, b}};
  for (const std::vector<Frame>& stack : same) table.Add(stack, {}, {.weight = 1, .first = 2, .second = 3});
  const Frame only[] = {leaf, agent, leaf};
  table.Add(only, {}, {.weight = 1});
  table.CutAt(2);
  table.Finish([&](Frame frame) { return frame == leaf; });
  ASSERT_EQ(table.rows().size(), 2u);
  EXPECT_EQ(table.rows()[0].counts.weight, std::size(same));
  EXPECT_EQ(table.rows()[0].counts.first, 2 * std::size(same));
  EXPECT_EQ(table.rows()[0].counts.second, 3 * std::size(same));
  EXPECT_EQ(table.rows()[0].stack, ShownStack(same[4]));
  EXPECT_EQ(table.rows()[1].stack.size(), 2u);
  EXPECT_EQ(table.rows()[1].stack[1], leaf);
}

}  // namespace
}  // namespace profagent
