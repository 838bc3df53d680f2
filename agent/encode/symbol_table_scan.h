// One pass over a symbol table, against sorted addresses. See elf_symbols.h for the rules of choice.
//
// Context: `dump`, `offline`.
#pragma once

#include <span>
#include <string_view>

#include "agent/encode/elf_reader.h"
#include "agent/encode/symbol_source.h"

namespace profagent {

// The symbols of `table` (SHT_SYMTAB or SHT_DYNSYM) for `addresses` (ascending, each once). Fills in those of
// `names` that are empty; they live in the arena.
void NameFromSymbolTable(const ElfReader& file, const Elf64_Shdr& table, SymbolKind kind,
                         std::span<const uint64_t> addresses, std::span<FunctionSymbol> names, Arena& arena);

// A null-terminated name of a string section, without its symbol version, with `suffix` behind it; in the arena.
// Empty: not there, or longer than any real one.
std::string_view ReadSymbolName(const ElfReader& file, const Elf64_Shdr& strings, uint64_t offset,
                                std::string_view suffix, Arena& arena);

}  // namespace profagent
