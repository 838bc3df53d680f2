// Names for the functions of stripped code: where each begins is written in the unwind table, which nobody strips.
//
// Context: `dump`, `offline`.
// Why:     `libfoo.so+0x1f30` for every address of one function makes one row of a report, and says where to look; the bare
//          addresses would make a row each.
#pragma once

#include <span>
#include <string_view>

#include "agent/encode/elf_reader.h"
#include "agent/encode/symbol_source.h"

namespace profagent {

// Names those of `addresses` (ascending) whose name is still empty and that .eh_frame_hdr knows: `module_name`+0x and the
// function's first address. Likewise those that are called after a label that lies before the function: a stripped library
// exports empty functions, whose size is 0. Code between two functions of the table (assembly without unwind information) is called
// after its beginning; more than 16 MiB of it is no assembly but a program without unwind tables, and gets no name. Only the table
// form and encodings that linkers write are read (others name nothing).
void NameFromFrameTable(const ElfReader& file, std::string_view module_name,
                        std::span<const uint64_t> addresses, std::span<FunctionSymbol> names, Arena& arena);

}  // namespace profagent
