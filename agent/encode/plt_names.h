// Names for the stubs of the procedure linkage table, which no symbol table names.
//
// Context: `dump`, `offline`.
// How:     a stub jumps through a slot of the GOT, and a relocation says which function the slot is for. The jump is
//          read from the stub itself, so .plt, .plt.sec, .plt.got and what linkers may think of next are one case.
#pragma once

#include <span>
#include <string_view>

#include "agent/encode/elf_reader.h"
#include "agent/encode/symbol_source.h"

namespace profagent {

// Names those of `addresses` that lie in a section called .plt*, as `memcpy@plt`.
void NamePltStubs(const ElfReader& file, std::span<const uint64_t> addresses, std::span<FunctionSymbol> names,
                  Arena& arena);

}  // namespace profagent
