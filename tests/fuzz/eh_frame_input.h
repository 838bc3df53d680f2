// Feeds bytes as .eh_frame, .eh_frame_hdr and expressions to every reader of them. Shared by the fuzzer and by the
// unit test that runs with every build.
//
// Nothing is expected of the answers but that they come, without a read outside the bytes, and that the quick way to a
// recipe says nothing else than the general one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "agent/unwind/dwarf_expression.h"
#include "agent/unwind/eh_frame.h"
#include "agent/unwind/quick_recipe.h"
#include "agent/unwind/recipe.h"
#include "agent/unwind/table_index.h"

namespace profagent {

inline uint32_t TryTables(const EhFrameTables& tables, const TableIndex* index, uintptr_t pc) {
  Recipe quick;
  if (tables.table != 0) quick = QuickRecipe(tables, FindTableEntry(tables, index, pc), pc);
  bool answered = quick.kind() != RecipeKind::kNone;
  FrameEntry entry;
  UnwindRow row;
  bool found = FindFrameEntry(tables, index, pc, &entry);
  if (!found || !FindRow(tables, entry, pc, &row)) {
    if (answered) abort();
    return found ? 1 : 0;
  }
  Recipe recipe = MakeRecipe(tables, row, pc);
  if (answered && quick != recipe) abort();
  return 2 + static_cast<uint32_t>(recipe.kind());
}

// The first 16 bytes choose what is asked; the rest is the segment. Returns how far the last question came.
inline uint32_t TryEhFrame(const uint8_t* data, size_t size) {
  if (size < 16) return 0;
  auto start = reinterpret_cast<uintptr_t>(data) + 16;
  MemoryRange segment{start, start + size - 16};
  uint16_t header_offset, pc_offset, code_size;
  std::memcpy(&header_offset, data, 2);
  std::memcpy(&pc_offset, data + 2, 2);
  std::memcpy(&code_size, data + 4, 2);

  EhFrameTables tables = ReadEhFrameHeader(start + header_offset, &segment, 1, start);
  uint32_t reached = 0;
  if (!tables.segment.empty()) {
    TableIndex index;
    std::vector<uint32_t> room;
    bool indexed = tables.table_count >= 1 && tables.table_count < 10'000;
    if (indexed) {
      room.resize(TableIndex::SizeFor(tables));
      indexed = index.Build(tables, room.data());
    }
    for (uintptr_t pc : {start + pc_offset, start - pc_offset, uintptr_t{pc_offset}}) {
      reached = TryTables(tables, nullptr, pc);
      if (indexed) reached = TryTables(tables, &index, pc);
    }
  }
  EhFrameTables linear;
  linear.segment = segment;
  linear.eh_frame = start;
  linear.header = start;
  reached |= TryTables(linear, nullptr, pc_offset) << 8;

  StackWindowPool windows;
  StackMemory memory(segment, &windows);
  Registers registers = {};
  for (uint64_t& value : registers.value) value = start + code_size;
  ExpressionInput input{.pc = pc_offset, .registers = &registers, .memory = &memory, .has_initial = true};
  ExpressionValue value;
  EvaluateExpression(ByteReader(segment.start, segment.limit), input, &value);
  return reached;
}

}  // namespace profagent
