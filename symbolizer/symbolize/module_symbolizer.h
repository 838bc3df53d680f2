// Everything that is known about the code of one module: symbol table and DWARF together.
//
// Context:    `offline`.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/symbolize/binaries.h"
#include "symbolizer/symbolize/dwarf_index.h"
#include "symbolizer/symbolize/symbol_table.h"

namespace profagent {

// One function of a location, as the profile will have it. Texts live as long as the ModuleSymbolizer.
struct SourceFrame {
  std::string_view symbol;  // mangled where the language mangles
  std::string_view name;    // as a person reads it, where demangling `symbol` does not give that; else ""
  std::string_view file;
  uint32_t line = 0;
  uint32_t column = 0;
  uint32_t start_line =
      0;                  // where the function begins; 0 when that is in another file than `file`, or unknown
  bool is_guess = false;  // after an exported label of a stripped file: how far that reaches is not said
};

// The place of a mapping's addresses in the file, as profile.proto gives it.
struct MappingPlace {
  uint64_t start = 0, limit = 0, offset = 0;
};

class ModuleSymbolizer {
 public:
  explicit ModuleSymbolizer(Binary binary);

  // The file's own number of an address of the process, by the mapping and the file's segments. `all`: the mappings that the
  // profile has of this file.
  uint64_t FileAddress(const MappingPlace& mapping, std::span<const MappingPlace> all,
                       uint64_t address) const;

  // `addresses` (of the file) are sorted and unique. frames[i] is innermost first, and empty when nothing is
  // known.
  void Find(std::span<const uint64_t> addresses, std::span<std::vector<SourceFrame>> frames);

  bool only_dynamic_symbols() const { return symbols_.only_dynamic(); }
  const DwarfGaps* gaps() const { return dwarf_ != nullptr ? &dwarf_->gaps() : nullptr; }
  const Binary& binary() const { return binary_; }

 private:
  uint64_t StartInDebugFile(const MappingPlace& mapping, std::span<const MappingPlace> all) const;
  std::string_view PhysicalName(const DwarfFunction* function, const Symbol* symbol) const;

  void AddMiniDebugInfo();
  void Note(std::string_view problem);

  Binary binary_;
  std::unique_ptr<ElfFile> mini_debug_info_;
  SymbolTable symbols_;
  std::unique_ptr<DwarfIndex> dwarf_;
};

}  // namespace profagent
