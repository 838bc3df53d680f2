// The names of a profile's frames, where memory gives out at each step.
#include "agent/encode/frame_table.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/encode/test_ledger.h"

namespace profagent {
namespace {

// "even" and "odd", after the address.
void Names(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  for (size_t i = 0; i < names.size(); ++i) names[i].name = request.addresses[i] % 2 == 0 ? "even" : "odd";
}

TEST(FrameTable, NamesWhatWasAddedSinceAndKeepsWhatItHas) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  LedgerView view = ledger.view();
  Arena arena;
  ModuleTable modules(view, Names, arena);
  ASSERT_TRUE(modules.Collect());
  FrameTable frames(modules, arena);
  EXPECT_TRUE(frames.Name());  // nothing
  for (uint64_t i = 0; i < 1000; ++i) EXPECT_EQ(frames.Add(In(1 + i % 2, 5000 - i)), i);
  EXPECT_TRUE(frames.SymbolOf(0).name.empty());
  EXPECT_TRUE(frames.Name());
  for (uint64_t i = 1000; i < 3000; ++i) EXPECT_EQ(frames.Add(In(1 + i % 2, 5000 - i)), i);
  EXPECT_EQ(frames.Add(In(1, 5000)), 0u);
  EXPECT_EQ(frames.Find(In(1, 1)), FrameTable::kNone);
  EXPECT_EQ(frames.SymbolOf(999).name, "odd");
  EXPECT_TRUE(frames.SymbolOf(1000).name.empty());
  EXPECT_TRUE(frames.Name());
  ASSERT_EQ(frames.size(), 3000u);
  for (uint32_t i = 0; i < 3000; ++i) EXPECT_EQ(frames.SymbolOf(i).name, i % 2 == 0 ? "even" : "odd") << i;
  EXPECT_TRUE(frames.SymbolOf(3000).name.empty());
  EXPECT_TRUE(frames.SymbolOf(FrameTable::kNone).name.empty());
}

// What was named keeps its name, where a later naming has no memory; and with memory it is made good. The array of names has memory
// of its own here, and moves as it grows.
TEST(FrameTable, KeepsItsNamesWhenMemoryGivesOut) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  LedgerView view = ledger.view();
  int failed = 0, complete = 0;
  constexpr size_t kKiB = 1024;
  constexpr size_t kShared[] = {50'000, 60'000, 115'000};
  for (size_t i = 0; i < 180; ++i) {
    const size_t room = i / 3 < 40 ? i / 3 * 4 * kKiB : i / 3 * 30 * kKiB;
    Arena arena(size_t{64} << 20);
    ModuleTable modules(view, Names, arena);
    ASSERT_TRUE(modules.Collect());
    FrameTable frames(modules, arena);
    constexpr uint32_t kFirst = 20'000, kAll = kFirst + 20 * 128;  // names of so many take whole pages
    for (uint32_t n = 0; n < kFirst; ++n) ASSERT_EQ(frames.Add(In(1, n)), n);
    ASSERT_TRUE(frames.Name());
    for (uint32_t n = kFirst; n < kAll; ++n) ASSERT_EQ(frames.Add(In(1, n)), n);
    // What is shared has room for numbers and frames; also for their addresses; also for names, but for addresses then.
    size_t before = arena.taken();
    while (arena.taken() == before) ASSERT_NE(arena.Allocate(1000), nullptr);
    ASSERT_NE(arena.Allocate(arena.taken() - before - kShared[i % 3]), nullptr);
    arena.HoldBack(arena.limit() - arena.taken() - room);
    ++(frames.Name() ? complete : failed);
    auto expect_names = [&](uint32_t count) {
      for (uint32_t n = 0; n < count; ++n)
        ASSERT_EQ(frames.SymbolOf(n).name, n % 2 == 0 ? "even" : "odd") << n << ", " << room;
    };
    ASSERT_NO_FATAL_FAILURE(expect_names(kFirst));
    arena.HoldBack(0);
    EXPECT_TRUE(frames.Name());
    ASSERT_NO_FATAL_FAILURE(expect_names(kAll));
  }
  EXPECT_GT(failed, 10);
  EXPECT_GT(complete, 5);
}

// What has no place in the index is not there at all: it would be met as new again.
TEST(FrameTable, HoldsNoFrameThatItDoesNotFind) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  LedgerView view = ledger.view();
  for (size_t limit = size_t{560} << 10; limit < size_t{900} << 10; limit += size_t{4} << 10) {
    Arena arena(limit);
    ModuleTable modules(view, Names, arena);
    ASSERT_TRUE(modules.Collect());
    FrameTable frames(modules, arena);
    uint32_t added = 0;
    for (uint64_t i = 0; i < 50'000; ++i) {
      uint32_t number = frames.Add(In(1, i));
      if (number == FrameTable::kNone) continue;
      ASSERT_EQ(number, added++);
      ASSERT_EQ(frames.Find(In(1, i)), number);
    }
    EXPECT_LT(added, 50'000u);
    EXPECT_EQ(frames.size(), added) << limit;
  }
}

}  // namespace
}  // namespace profagent
