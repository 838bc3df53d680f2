// Reads .eh_frame: finds the entry (FDE) of an address and runs it to the row that holds there.
//
// Context:   `signal`, `hook`. No lock, no allocation, no state.
// Promise:   whatever the bytes are, only `tables`' segments are read and every loop ends: each step of the
//            interpreter consumes a byte of the entry, each step of a search an entry of the table.
// Covers:    .eh_frame_hdr with a sorted table (4 or 8 bytes an address), a search from front to back where
//            there is none; 32 and 64 bit entries; CIE versions 1, 3, 4; augmentations z R P L S B and `eh`;
//            all DW_CFA operations of DWARF 5 and GNU's. Registers above 16 (vectors) are skipped over.
// Refuses:   more than kMaxRemembered nested DW_CFA_remember_state. Compilers nest none: 1 is the
//            deepest of the 13 000 in Debian's libc, libcrypto, libstdc++, libm, libsqlite3, liblzma and loader.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/unwind/byte_reader.h"
#include "agent/unwind/memory_range.h"
#include "agent/unwind/unwind_row.h"

namespace profagent {

inline constexpr int kMaxRemembered = 4;

// Where an object's tables are. `segment`: the readable PT_LOAD that holds .eh_frame. Empty: there is none.
struct EhFrameTables {
  MemoryRange segment;
  uintptr_t eh_frame = 0;    // first entry
  uintptr_t header = 0;      // .eh_frame_hdr: what its offsets are relative to
  uintptr_t table = 0;       // sorted (address, entry) pairs; 0: none
  uint64_t table_count = 0;  // pairs
  uint8_t table_encoding = 0;
  MemoryRange table_segment;  // the readable PT_LOAD that holds the header
  uintptr_t text = 0;         // for DW_EH_PE_textrel
};

// Reads the header at `header`. `segments`: the object's readable PT_LOADs. Without a usable header the result
// has an empty `segment`.
PROF_SIGNAL_SAFE EhFrameTables ReadEhFrameHeader(uintptr_t header, const MemoryRange* segments, size_t count,
                                                 uintptr_t text);

// What an FDE and its CIE say in front of the row programs.
struct FrameEntry {
  uintptr_t start = 0;  // of the code that it covers
  uintptr_t limit = 0;
  uint64_t code_alignment = 1;
  int64_t data_alignment = 1;
  uint8_t pointer_encoding = 0;
  bool signal_frame = false;
  bool has_augmentation_data = false;
  ByteReader initial;       // the CIE's program
  ByteReader instructions;  // the FDE's
};

class TableIndex;

// Where the entry stands whose code begins last at or before pc, by the sorted table (which there must be). 0: none.
PROF_SIGNAL_SAFE uintptr_t FindTableEntry(const EhFrameTables& tables, const TableIndex* index, uintptr_t pc);

// The entry that covers `pc`. False: none, or it is broken. `index`: shortens the search, or nullptr.
PROF_SIGNAL_SAFE bool FindFrameEntry(const EhFrameTables& tables, const TableIndex* index, uintptr_t pc,
                                     FrameEntry* entry);

// The row that holds at `pc`. False: broken.
PROF_SIGNAL_SAFE bool FindRow(const EhFrameTables& tables, const FrameEntry& entry, uintptr_t pc,
                              UnwindRow* row);

// The code of the expression that a row names.
PROF_SIGNAL_SAFE ByteReader ExpressionCode(const EhFrameTables& tables, int32_t position);

}  // namespace profagent
