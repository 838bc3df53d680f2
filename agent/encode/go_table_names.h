// Names for the functions of a stripped Go program: Go's own table of them is loaded, so that `strip` leaves it.
//
// Context: `dump`, `offline`.
// Why:     nothing else knows them: Go's code has no unwind table, and to .eh_frame_hdr all of it is one gap behind C's start code.
#pragma once

#include <span>

#include "agent/encode/elf_reader.h"
#include "agent/encode/symbol_source.h"

namespace profagent {

// Names those of `addresses` (ascending) whose name is still empty, or a label's, and that .gopclntab knows, in the form of Go 1.18
// and later, and of a program that is not position independent (others name nothing: linkers merge that section with others).
void NameFromGoTable(const ElfReader& file, std::span<const uint64_t> addresses,
                     std::span<FunctionSymbol> names, Arena& arena);

}  // namespace profagent
