#include "agent/unwind/eh_frame.h"

#include "agent/unwind/table_index.h"

namespace profagent {
namespace {

// A search from front to back costs some 10 ns an entry inside a signal handler: bounded at about a millisecond.
constexpr uint64_t kMaxScanned = 100'000;

PROF_SIGNAL_SAFE MemoryRange SegmentOf(uintptr_t address, const MemoryRange* segments, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (segments[i].Holds(address, 1)) return segments[i];
  }
  return {};
}

struct EntryHeader {
  uintptr_t at = 0;     // where the entry begins
  uintptr_t id_at = 0;  // where its CIE pointer stands
  uint64_t id = 0;      // 0: a CIE; else distance from id_at back to the CIE
  ByteReader body;      // behind the id, to the entry's end
  uintptr_t next = 0;   // 0: the end of the list
};

PROF_SIGNAL_SAFE bool ReadEntryHeader(const MemoryRange& segment, uintptr_t at, EntryHeader* entry) {
  ByteReader reader(segment, at);
  entry->at = at;
  uint64_t length = reader.U32();
  if (length == 0xffffffff) length = reader.U64();
  if (!reader.ok()) return false;
  if (length == 0) {
    entry->next = 0;
    entry->id = 0;
    return true;
  }
  ByteReader body = reader.Take(length);
  entry->next = reader.at();
  entry->id_at = body.at();
  entry->id = body.U32();  // behind a length of 64 bits, too (LSB; .debug_frame differs)
  entry->body = body;
  return body.ok();
}

PROF_SIGNAL_SAFE bool ReadCie(const EhFrameTables& tables, uintptr_t at, FrameEntry* entry) {
  EntryHeader header;
  if (!ReadEntryHeader(tables.segment, at, &header) || header.id != 0 || header.next == 0) return false;
  ByteReader body = header.body;
  uint8_t version = body.U8();
  if (version != 1 && version != 3 && version != 4) return false;
  uintptr_t augmentation = body.at();
  while (body.U8() != 0) {
  }
  ByteReader letters(augmentation, body.at());
  bool eh = false;
  if (letters.left() == 3) {
    ByteReader copy = letters;
    eh = copy.U8() == 'e' && copy.U8() == 'h';
  }
  if (eh) {  // of gcc 2: a pointer that nobody needs
    body.Skip(8);
    letters = ByteReader();
  }
  if (version == 4 && (body.U8() != 8 || body.U8() != 0)) return false;  // address and segment selector size
  entry->code_alignment = body.Uleb();
  entry->data_alignment = body.Sleb();
  uint64_t return_column = version == 1 ? body.U8() : body.Uleb();
  if (!body.ok() || return_column != kReturnAddress) return false;

  entry->pointer_encoding = kPointerAbsolute;
  entry->signal_frame = false;
  entry->has_augmentation_data = false;
  uint8_t letter = letters.U8();
  if (letter == 'z') {
    entry->has_augmentation_data = true;
    uint64_t size = body.Uleb();
    ByteReader data = body.Take(size);
    while ((letter = letters.U8()) != 0) {
      if (letter == 'R') {
        entry->pointer_encoding = data.U8();
      } else if (letter == 'P') {
        data.SkipPointer(data.U8());
      } else if (letter == 'L') {
        data.U8();
      } else if (letter == 'S') {
        entry->signal_frame = true;
      } else if (letter != 'B' && letter != 'G') {
        break;  // `z` gives the size of what we do not understand
      }
    }
    if (!data.ok()) return false;
  } else if (letter != 0) {
    return false;
  }
  entry->initial = body;
  return body.ok();
}

// An FDE and its CIE.
PROF_SIGNAL_SAFE bool ReadFde(const EhFrameTables& tables, const EntryHeader& header, FrameEntry* entry) {
  if (header.id == 0 || header.id > header.id_at - tables.segment.start) return false;
  if (!ReadCie(tables, header.id_at - header.id, entry)) return false;
  ByteReader body = header.body;
  PointerBases bases{.text = tables.text, .data = tables.header, .function = 0};
  entry->start = body.Pointer(entry->pointer_encoding, bases, tables.segment);
  // The size has the format of the address, and no base.
  uint64_t size = body.Pointer(entry->pointer_encoding & kPointerFormatMask, bases, tables.segment);
  if (!body.ok() || size > UINTPTR_MAX - entry->start) return false;
  entry->limit = entry->start + size;
  if (entry->has_augmentation_data) {
    uint64_t augmentation_size = body.Uleb();
    body.Skip(augmentation_size);
  }
  entry->instructions = body;
  return body.ok();
}

}  // namespace

uintptr_t FindTableEntry(const EhFrameTables& tables, const TableIndex* index, uintptr_t pc) {
  uint64_t width = TableWidth(tables);
  uint64_t low = 0, high = tables.table_count;
  if (index != nullptr) index->Narrow(tables, pc, &low, &high);
  while (low < high) {  // all before `low` begin at or before pc, all from `high` on behind it
    uint64_t middle = low + (high - low) / 2;
    if (TableValue(tables, tables.table + middle * 2 * width, width) <= pc) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return 0;
  return TableValue(tables, tables.table + (low - 1) * 2 * width + width, width);
}

EhFrameTables ReadEhFrameHeader(uintptr_t header, const MemoryRange* segments, size_t count, uintptr_t text) {
  EhFrameTables tables;
  tables.header = header;
  tables.text = text;
  tables.table_segment = SegmentOf(header, segments, count);
  ByteReader reader(tables.table_segment, header);
  uint8_t version = reader.U8();
  uint8_t frame_encoding = reader.U8();
  uint8_t count_encoding = reader.U8();
  tables.table_encoding = reader.U8();
  if (!reader.ok() || version != 1) return {};
  PointerBases bases{.text = text, .data = header, .function = 0};
  tables.eh_frame = reader.Pointer(frame_encoding, bases, tables.table_segment);
  if (!reader.ok()) return {};
  tables.segment = SegmentOf(tables.eh_frame, segments, count);
  if (tables.segment.empty()) return {};
  bool sorted = tables.table_encoding == (kPointerDataRelative | kPointerSdata4) ||
                tables.table_encoding == (kPointerDataRelative | kPointerSdata8);
  uint64_t entries = reader.Pointer(count_encoding, bases, tables.table_segment);
  if (!sorted || count_encoding == kPointerOmitted || !reader.ok()) return tables;
  uint64_t pair = tables.table_encoding == (kPointerDataRelative | kPointerSdata8) ? 16 : 8;
  if (entries > reader.left() / pair) return tables;  // cut off: search .eh_frame itself
  tables.table = reader.at();
  tables.table_count = entries;
  return tables;
}

bool FindFrameEntry(const EhFrameTables& tables, const TableIndex* index, uintptr_t pc, FrameEntry* entry) {
  EntryHeader header;
  if (tables.table != 0) {
    uintptr_t at = FindTableEntry(tables, index, pc);
    if (at == 0 || !ReadEntryHeader(tables.segment, at, &header) || header.next == 0) return false;
    return ReadFde(tables, header, entry) && pc >= entry->start && pc < entry->limit;
  }
  uintptr_t at = tables.eh_frame;
  for (uint64_t scanned = 0; scanned < kMaxScanned; ++scanned) {
    if (!ReadEntryHeader(tables.segment, at, &header) || header.next == 0) return false;
    if (header.id != 0 && ReadFde(tables, header, entry) && pc >= entry->start && pc < entry->limit) {
      return true;
    }
    at = header.next;
  }
  return false;
}

ByteReader ExpressionCode(const EhFrameTables& tables, int32_t position) {
  ByteReader reader(tables.segment, tables.segment.start + static_cast<uint32_t>(position));
  uint64_t size = reader.Uleb();
  return reader.Take(size);
}

}  // namespace profagent
