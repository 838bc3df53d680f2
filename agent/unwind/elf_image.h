// What the program headers of a mapped object say, read from memory.
//
// Context: `signal`, `hook`, `bootstrap`. Reads nothing outside the object's own readable segments.
#pragma once

#include <elf.h>

#include <span>

#include "agent/base/signal_safe.h"
#include "agent/unwind/memory_range.h"

namespace profagent {

inline constexpr size_t kMaxSegments = 8;  // readable PT_LOADs that are kept; linkers make 2 to 5

struct ElfImage {
  MemoryRange text;  // the first executable PT_LOAD
  uint64_t text_file_offset = 0;
  MemoryRange readable[kMaxSegments];
  size_t readable_count = 0;
  std::span<const uint8_t> build_id;
};

// The program headers of the object whose first byte is mapped at `start`; empty when there is no ELF header
// there, or when they do not stand on its first page.
PROF_SIGNAL_SAFE std::span<const Elf64_Phdr> MappedProgramHeaders(const MemoryRange& object);

// `object`: all that is mapped of it; whatever a header claims beyond that is left out.
PROF_SIGNAL_SAFE void ReadElfImage(const MemoryRange& object, uintptr_t load_bias,
                                   std::span<const Elf64_Phdr> headers, ElfImage* image);

}  // namespace profagent
