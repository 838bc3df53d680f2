// The agent's source of function names: the symbol tables of the modules' own files.
//
// Context:  `dump`, `offline`. No malloc, no libc: raw system calls, memory from the profile's Arena.
// How:      one pass over .symtab (else .dynsym) of each module against its sorted addresses, so that a table of a
//           million symbols costs milliseconds and no memory; then only the names that were chosen are read. A file
//           whose build-id is not that of what was loaded gives no names: wrong ones would be worse.
// Choice:   functions and labels in executable sections, as `nm` shows them. A symbol with a size must cover the
//           address, the innermost one wins; one without a size reaches to the next symbol, to the next function of the
//           unwind table or to the section's end, of those that a stripped file exports 4 KiB at most, and counts only where no
//           sized one covers. Among symbols at one place: global, then weak, then local; a function before a label; then, as perf has it, fewer leading underscores,
//           then the longer name. Clones keep their suffixes (.part.0, .cold); a symbol version (@@GLIBC_2.17) is not
//           part of a name. Stubs of the procedure linkage table are called after the function behind them,
//           `memcpy@plt`.
#pragma once

#include "agent/base/arena.h"
#include "agent/encode/symbol_source.h"

namespace profagent {

class ElfSymbols {
 public:
  // kThisProcess: the ledger is that of the process we are in, so /proc/self/exe is its program, whatever became of
  // the path.
  enum class Origin { kThisProcess, kElsewhere };

  explicit ElfSymbols(Arena& arena, Origin origin) : arena_(arena), origin_(origin) {}

  // A SymbolSource.
  void operator()(const SymbolRequest& request, std::span<FunctionSymbol> names) const;

 private:
  Arena& arena_;
  Origin origin_;
};

}  // namespace profagent
