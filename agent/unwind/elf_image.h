// What the program headers of a mapped object say, read from memory.
//
// Context: `signal`, `hook`, `bootstrap`. Reads nothing outside the object's own readable segments.
#pragma once

#include <elf.h>

#include <span>

#include "agent/base/signal_safe.h"
#include "agent/unwind/memory_range.h"

namespace profagent {

inline constexpr size_t kMaxSegments = 8;  // PT_LOADs of each sort that are kept; linkers make 2 to 6

struct CodeSegment {
  MemoryRange range;
  uint64_t file_offset = 0;
};

struct ElfImage {
  // Executable PT_LOADs: mostly one, more where a linker script puts hot code apart.
  CodeSegment code[kMaxSegments];
  size_t code_count = 0;
  MemoryRange readable[kMaxSegments];
  size_t readable_count = 0;
  std::span<const uint8_t> build_id;

  std::span<const CodeSegment> code_segments() const { return {code, code_count}; }
  PROF_SIGNAL_SAFE bool CanRead(uintptr_t address, size_t size) const;
};

// The program headers of the object that is mapped in this range; empty when no ELF header is at its start, or when they do
// not stand on its first page.
PROF_SIGNAL_SAFE std::span<const Elf64_Phdr> MappedProgramHeaders(const MemoryRange& object);

// As the loader has it: from the first segment's page to the last one's end.
MemoryRange RangeOf(std::span<const Elf64_Phdr> headers, uintptr_t load_bias);

// The PT_LOAD with all of `flags` (PF_X, ...) that holds the address; empty: none does.
PROF_SIGNAL_SAFE MemoryRange SegmentAt(uintptr_t address, uintptr_t load_bias,
                                       std::span<const Elf64_Phdr> headers, Elf64_Word flags);

// `object`: all that is mapped of it; whatever a header claims beyond that is left out.
PROF_SIGNAL_SAFE void ReadElfImage(const MemoryRange& object, uintptr_t load_bias,
                                   std::span<const Elf64_Phdr> headers, ElfImage* image);

}  // namespace profagent
