// Gives every location of a profile its functions, files, lines and inlined calls, and locks their demangled names.
//
// Context:    `offline`.
// Invariant:  nothing gets worse: a location of which nothing is found keeps what it had, one that had nothing
//             is called `module+0x1f`, and lines that somebody found are not replaced by a bare name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "proto/profile.pb.h"
#include "symbolizer/symbolize/perf_map.h"

namespace profagent {

struct SymbolizeOptions {
  // Directories with binaries and separate debug files, searched before /usr/lib/debug (binaries.h says how).
  std::vector<std::string> debug_path;
  bool use_debuginfod = false;
  bool demangle = true;

  // PROFAGENT_DEBUG_PATH (colons between directories); debuginfod if DEBUGINFOD_URLS is set.
  static SymbolizeOptions FromEnvironment();
};

enum class SymbolsFound : uint8_t {
  kNothing,
  kSymbols,    // names from the symbol table
  kDebugInfo,  // functions, files, lines, inlined calls
};

// What became of one module of the profile.
struct ModuleReport {
  std::string name;        // as the profile's mapping has it
  std::string debug_file;  // where the debug information was found, "" when nowhere
  SymbolsFound found = SymbolsFound::kNothing;
  uint64_t locations = 0;
  uint64_t named = 0;       // locations that have a function's name now
  uint64_t with_lines = 0;  // locations that have a line now
  std::string problem;      // why it is not more, "" when all is well
  std::string advice;       // what the user can do about it, "" when nothing needs to be done

  // One line: `libc.so.6: symbol table only, no files and lines: ...`
  std::string Text() const;
};

struct SymbolizeReport {
  std::vector<ModuleReport>
      modules;  // in the order of the profile's mappings; without those that no location is in
};

// `report` may be nullptr. Fails only when the profile contradicts itself.
Status Symbolize(perftools::profiles::Profile* profile, const SymbolizeOptions& options,
                 SymbolizeReport* report);

// Names the locations of code that no file has and `map` describes (perf_map.h); `report` as above. Fails when the map cannot be read.
Status NameByPerfMap(perftools::profiles::Profile* profile, const std::string& map, PerfMapRules rules,
                     SymbolizeReport* report);

// Symbolize's share in the samples: the agent's label `lock` is a variable's name, maybe with a distance behind it.
void DemangleLocks(perftools::profiles::Profile* profile);

// Symbolize's share in the leaves of heap profiles, from which the agent has taken the allocator's frames: inlined functions of its
// names go, too. The loader has such, which call libc's (glibc's rtld-malloc.h), and Rust a handful for each allocation.
void HideInlinedAllocators(perftools::profiles::Profile* profile);

}  // namespace profagent
