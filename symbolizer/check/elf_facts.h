// What an ELF file says about how it can be profiled, without judgement.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent {

struct ElfFacts {
  bool is_64_bit = false;
  uint64_t size = 0;  // of the file, in bytes...
  uint64_t loaded_size =
      0;  // ...and what its segments to load, and their headers, ask for; more: it is cut short
  uint16_t machine = 0;     // EM_X86_64...
  uint16_t type = 0;        // ET_EXEC, ET_DYN...
  std::string interpreter;  // the loader that it asks for; "" when it asks for none
  bool is_dynamic = false;  // has a dynamic section
  bool is_pie = false;      // DF_1_PIE: a program, not a library
  bool has_soname = false;  // DT_SONAME: a library, also one that can be run (libc)
  bool exports_malloc = false;
  std::vector<std::string> needed;
  bool has_eh_frame = false;
  bool has_eh_frame_header = false;
  bool has_symbol_table = false;
  bool is_debug_file = false;  // has the names of the code, and not the code: a separate debug file
  bool is_go = false;
  std::set<std::string, std::less<>> defined;    // functions of its own...
  std::set<std::string, std::less<>> undefined;  // ...and those of others that it calls

  bool Needs(std::string_view library_prefix) const;
};

ElfFacts FactsOf(const ElfFile& file);

// "x86-64", "AArch64"...; "machine 123" for one that has no name here.
std::string MachineName(uint16_t machine);

}  // namespace profagent
