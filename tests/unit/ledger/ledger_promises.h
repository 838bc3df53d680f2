// What ledgers in memory and in files must both do.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <vector>

#include "agent/ledger/ledger.h"
#include "agent/ledger/ledger_view.h"
#include "tests/unit/in_child.h"

namespace profagent::testing {

// A handler may have forked, and return into a hook that holds pointers and ids: they lead to memory of the child's own, and to
// none of its records.
template <class Create>
void ExpectPlaceToBeKept(Ledger& ledger, Create create) {
  Frame frame{1};
  StackId stack = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
  auto* record = ledger.At<StackRecord>(stack.value);
  ledger.BeforeFork();
  EXPECT_EQ(InChild([&] {
              ledger.Vacate();
              if (ledger.is_open() || ledger.CanRecord() || ledger.IsOwn()) return 1;
              if (record->depth != 0) return 2;
              record->depth = 7;
              if (!create() || !ledger.IsOwn()) return 3;
              if (ledger.At<StackRecord>(stack.value) != record) return 4;
              record->depth = 7;
              StackId own = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
              if (own.value <= stack.value) return 5;
              Result<LedgerView> view = LedgerView::Over(ledger.bytes());
              return view && view->FindStack(own.value) && !view->FindStack(stack.value) ? 0 : 6;
            }),
            0);
  EXPECT_EQ(record->depth, 1);
}

// Pages of the ledger that are in memory, from byte `from` on.
inline size_t PagesInMemory(const Ledger& ledger, size_t from, size_t count) {
  std::vector<unsigned char> in_memory(count);
  auto* start = const_cast<std::byte*>(ledger.bytes().data()) + from / 4096 * 4096;
  EXPECT_EQ(mincore(start, count * 4096, in_memory.data()), 0);
  size_t found = 0;
  for (unsigned char each : in_memory) found += each & 1;
  return found;
}

// What the application maps there then is its own: Close leaves it alone.
inline void ExpectToKeepToALaterLimit(Ledger& ledger) {
  StackId before = ledger.InternStack(std::vector<Frame>{Frame{5}}, WalkEnd::kOutermost);
  uint64_t used = ledger.header()->used.load();
  ledger.KeepToLimit(Bytes{uint64_t{64} << 30});  // room for all of it
  EXPECT_EQ(ledger.header()->used.load(), used);
  ledger.KeepToLimit(Bytes{uint64_t{64} << 20});
  ledger.KeepToLimit(Bytes{uint64_t{32} << 20});
  auto* base = const_cast<std::byte*>(ledger.bytes().data());
  uint64_t start = (used + 4095) / 4096 * 4096, end = kLedgerDefaultSize - (uint64_t{4} << 20);
  std::vector<unsigned char> in_memory((end - start) / 4096);
  EXPECT_NE(mincore(base + start, 4096, in_memory.data()), 0);
  EXPECT_NE(mincore(base + end - 4096, 4096, in_memory.data()), 0);
  void* gap = mmap(base + start, end - start, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  EXPECT_EQ(gap, base + start);
  EXPECT_NE(ledger.AllocateTable(Bytes{128 * 1024}, Loss::kLedgerFull), nullptr);
  ledger.PopulateAhead();
  EXPECT_EQ(PagesInMemory(ledger, start, 256), 0u);
  StackId behind = ledger.InternStack(std::vector<Frame>{Frame{6}}, WalkEnd::kOutermost);
  EXPECT_GE(behind.value, end / kRecordUnit);
  EXPECT_EQ(ledger.InternStack(std::vector<Frame>{Frame{5}}, WalkEnd::kOutermost), before);
  EXPECT_TRUE(ledger.AddCpuTicks(behind, kNoText, 3));
  EXPECT_TRUE(LedgerView::Over(ledger.bytes()));
  EXPECT_NE(ledger.AllocateTable(Bytes{uint64_t{3} << 20}, Loss::kLedgerFull), nullptr);
  EXPECT_EQ(ledger.AllocateTable(Bytes{uint64_t{1} << 20}, Loss::kLedgerFull), nullptr);
  ledger.Close();
  EXPECT_EQ(mincore(gap, end - start, in_memory.data()), 0);
  munmap(gap, end - start);
}

}  // namespace profagent::testing
