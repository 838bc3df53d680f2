// The modules of a ledger with their executable segments, by their ids, and the names of functions in them.
//
// Context: `dump`, `offline`; memory from an Arena.
#pragma once

#include <cstdint>
#include <span>

#include "agent/base/arena.h"
#include "agent/encode/symbol_source.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

class ModuleTable {
 public:
  // A module, and one of its executable segments: what a mapping of the profile is.
  struct Entry {
    LedgerView::Module module;
    uint64_t mapping;  // id in the profile; 0: no sample met it
    Entry* more;       // the same module's next executable segment
  };

  ModuleTable(const LedgerView& ledger, SymbolSource symbols, Arena& arena)
      : ledger_(ledger), symbols_(symbols), arena_(arena) {}

  // Those that are there now; once more, when there may be others. False: no memory.
  bool Collect();

  // nullptr: no such module.
  Entry* Find(ModuleId id) const {
    return static_cast<uint32_t>(id) < kSlots ? entries_[static_cast<uint32_t>(id)] : nullptr;
  }
  // The same, with the segment that holds the frame where there are several; outside of all, the first.
  Entry* Find(Frame frame) const;
  uint32_t count() const { return count_; }    // of all entries
  Entry* program() const { return program_; }  // nullptr: it was never entered
  ModuleId agent() const { return agent_; }    // kNone: likewise
  uint64_t damaged() const { return damaged_; }

  // Asks for the names of each module's addresses at once, so that the source can make one pass over a symbol table.
  // `frames` are sorted by value; a frame without a name leaves its entry of `names` as it was. False: no memory.
  [[nodiscard]] bool NameFrames(std::span<const Frame> frames, std::span<FunctionSymbol> names) const {
    return Name(SymbolKind::kFunctions, frames, names);
  }
  // The same of variables.
  [[nodiscard]] bool NameVariables(std::span<const Frame> places, std::span<FunctionSymbol> names) const {
    return Name(SymbolKind::kVariables, places, names);
  }

  static constexpr uint32_t kSlots = static_cast<uint32_t>(ModuleId::kMaxLoaded) + 1;

 private:
  Entry* Add(const LedgerView::Module& module, Entry* more);
  bool Name(SymbolKind kind, std::span<const Frame> frames, std::span<FunctionSymbol> names) const;

  const LedgerView& ledger_;
  SymbolSource symbols_;
  Arena& arena_;
  Entry** entries_ = nullptr;  // by ModuleId
  Entry* program_ = nullptr;
  ModuleId agent_ = ModuleId::kNone;
  uint32_t count_ = 0;
  uint64_t damaged_ = 0;
};

}  // namespace profagent
