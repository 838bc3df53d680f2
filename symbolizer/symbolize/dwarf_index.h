// Functions, inlined functions, files and lines of a set of addresses, from a file's DWARF.
//
// Context:    `offline`.
//
// A profile's addresses are all known before the first is looked up. So nothing is indexed for later: the
// sorted addresses are merged with the units' ranges, in each unit that has any with its functions, in each
// function with the inlined calls inside it, and with the line program as it is decoded. What no address asks
// for is neither kept nor, where the compiler says how to skip it (DW_AT_sibling), read. Memory is what the
// addresses and their names take, plus the pages of the file.
//
// Rejected: dwfl_module_addrdie + dwarf_getscopes_die, which search a unit from its beginning for every
// address (150 s for 10 000 addresses of a binary with 100 MB of DWARF, against about a second).
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/result.h"
#include "symbolizer/symbolize/elf_file.h"
#include "symbolizer/symbolize/line_table.h"

namespace profagent {

// A function as DWARF describes it. Texts lie in the file.
struct DwarfFunction {
  std::string_view linkage_name;  // as the linker knows it; "" for C
  std::string_view name;          // as the source has it, without its scope
  // With its scope, where no linkage name says it: GCC gives none to functions of internal linkage.
  std::string qualified_name;
  const std::string* file = nullptr;
  uint32_t line = 0;  // where it is declared, in `file`
};

struct DwarfFrame {
  const DwarfFunction* function = nullptr;  // nullptr: only the line is known (assembly)
  const std::string* file = nullptr;        // never nullptr; "" when unknown
  uint32_t line = 0;
  uint32_t column = 0;
};

// Innermost first; the last is the physical function.
using DwarfFrames = std::vector<DwarfFrame>;

struct DwarfGaps {
  uint64_t split_units = 0;          // units whose functions are in a .dwo file
  uint64_t missing_split_units = 0;  // of them, those whose .dwo file is not there
  std::string missing_split_file;    // the first of them
  std::string bad_alternate;         // what is wrong with the file that .gnu_debugaltlink names
  uint64_t bad_line_tables = 0;
  std::string bad_line_table;  // what is wrong with the first
};

class DwarfIndex {
 public:
  // `alternate` is the file that .gnu_debugaltlink names, or nullptr. Both must outlive the index. `code` is
  // the file whose segments say where code is (`file` itself, or the binary that it belongs to).
  static Result<std::unique_ptr<DwarfIndex>> Open(ElfFile* file, ElfFile* alternate, const ElfFile& code);
  ~DwarfIndex();
  DwarfIndex(const DwarfIndex&) = delete;
  DwarfIndex& operator=(const DwarfIndex&) = delete;

  // `addresses` are sorted and unique. frames[i] stays empty where DWARF says nothing. What frames point at
  // lives as long as the index.
  void Find(std::span<const uint64_t> addresses, std::span<DwarfFrames> frames);

  const DwarfGaps& gaps() const { return gaps_; }

 private:
  class UnitWalk;
  struct Unit {
    Dwarf_Die die;    // of the file itself: has the lines
    Dwarf_Die split;  // of the .dwo file, or the same
    std::vector<uint32_t> addresses;
  };

  DwarfIndex() = default;
  void AssignToUnits(std::span<const uint64_t> addresses, std::vector<Unit>* units);
  void FindInUnit(Unit* unit, std::span<const uint64_t> all, std::span<DwarfFrames> frames);
  LineTable* LineTableOf(Dwarf_Die* unit_die);
  const DwarfFunction* FunctionOf(Dwarf_Die* die);
  void QualifyNames();

  ElfFile* file_ = nullptr;
  Dwarf* dwarf_ = nullptr;
  Dwarf* alternate_ = nullptr;
  uint64_t lowest_code_address_ = 0;
  LineSections line_sections_;
  std::unordered_map<uint64_t, std::unique_ptr<LineTable>> line_tables_;       // by offset in .debug_line
  std::unordered_map<const void*, std::unique_ptr<DwarfFunction>> functions_;  // by abstract DIE
  // Functions whose scope is still to be found, and where they are described.
  struct Unqualified {
    Dwarf_Die die;
    DwarfFunction* function;
  };
  std::vector<Unqualified> unqualified_;
  DwarfGaps gaps_;
};

}  // namespace profagent
