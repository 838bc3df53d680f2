// What a lock is called in a profile: what the hook wrote down of it, in words.
//
// Context: `dump`, `offline`; memory from an Arena.
// How:     a hook knows where a lock is, not what it is called (LockLabel, agent/ledger/lock_label.h). The name of static data
//          comes from the symbol tables of its module, all names of a module in one pass: `global_mu`, `table+0x50`. Without
//          a symbol: `app+0x4010`. Everything else is shown as it is: `heap 0x55d0c0de`, `stack 0x7ffd1230`.
#pragma once

#include <string_view>

#include "agent/encode/module_table.h"
#include "agent/encode/tables.h"

namespace profagent {

class LockNames {
 public:
  LockNames(const ModuleTable& modules, Arena& arena) : modules_(modules), arena_(arena), frames_(arena) {}

  // All labels first, in any order; then Resolve.
  void Add(std::string_view label);
  void Resolve();
  // Of a label that was added; without memory the label itself.
  std::string_view Name(std::string_view label) const;

 private:
  std::string_view NameOf(Frame place, const FunctionSymbol& symbol) const;

  const ModuleTable& modules_;
  Arena& arena_;
  GrowingArray<Frame> frames_;
  std::string_view* names_ = nullptr;  // of frames_, which are sorted then
};

}  // namespace profagent
