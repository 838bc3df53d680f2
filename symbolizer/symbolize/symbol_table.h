// The functions that a file's symbol table names: the answer when there is no debug information, and the name
// of the physical function when there is (a clone such as `f.cold` has a symbol, but only `f` in DWARF).
//
// Context:    `offline`. Names lie in the ElfFile's string table.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent {

struct Symbol {
  uint64_t address = 0;
  uint64_t size = 0;      // 0: not said (assembly); it ends where the next one starts
  std::string_view name;  // without its version: `free@GLIBC_2.2.5` is `free`
  uint8_t rank = 0;       // of several names of one function the lowest is shown
};

class SymbolTable {
 public:
  // .symtab, or .dynsym when that was stripped. Adds to what an earlier call found, so that a separate debug
  // file's symbols complete those of the binary.
  void Add(const ElfFile& file);
  // Where functions begin, by the file's unwind information: for symbols that are not all. One without a size ends there.
  void AddStarts(const ElfFile& file);

  // The symbol that covers the address, under its best name; nullptr when there is none. A label of a stripped file, which
  // exports it but not what follows, covers 4 KiB at most.
  const Symbol* Find(uint64_t address);
  // Of the names that the symbol's function has, the one that fits what DWARF calls it: the same, or a clone of it
  // (`name.cold`). "" when none does.
  std::string_view NameLike(const Symbol& symbol, std::string_view name) const;

  bool empty() const { return symbols_.empty(); }
  bool only_dynamic() const { return only_dynamic_; }

 private:
  void Sort();

  std::vector<Symbol> symbols_;
  std::vector<uint64_t> starts_;
  bool sorted_ = false;
  bool only_dynamic_ = true;
};

}  // namespace profagent
