#include "agent/encode/module_table.h"

namespace profagent {

bool ModuleTable::Collect() {
  entries_ = arena_.AllocateArray<Entry*>(kSlots);
  if (entries_ == nullptr) return false;
  damaged_ += ledger_.ForEachModule([&](const LedgerView::Module& module) {
    auto id = static_cast<uint32_t>(module.id);
    if (id == 0 || id >= kSlots || entries_[id] != nullptr) {
      ++damaged_;
      return;
    }
    auto* entry = arena_.AllocateArray<Entry>(1);
    if (entry == nullptr) return;  // its frames are then named by its number
    *entry = Entry{module, 0};
    entries_[id] = entry;
    if ((module.flags & kModuleIsAgent) != 0) agent_ = module.id;
  });
  for (uint32_t id = 1; id < kSlots && program_ == nullptr; ++id) {
    if (entries_[id] != nullptr && (entries_[id]->module.flags & kModuleIsProgram) != 0)
      program_ = entries_[id];
  }
  return true;
}

bool ModuleTable::Name(SymbolKind kind, std::span<const Frame> frames,
                       std::span<FunctionSymbol> names) const {
  auto* addresses = arena_.AllocateArray<uint64_t>(frames.size());
  if (addresses == nullptr) return false;
  for (size_t i = 0; i < frames.size(); ++i) addresses[i] = frames[i].offset();
  for (size_t first = 0, last; first < frames.size(); first = last) {
    ModuleId module = frames[first].module();
    for (last = first; last < frames.size() && frames[last].module() == module;) ++last;
    Entry* entry = Find(module);
    if (entry == nullptr) continue;
    symbols_(SymbolRequest{entry->module,
                           ledger_.Text(ledger_.header().working_directory),
                           {addresses + first, last - first},
                           kind},
             names.subspan(first, last - first));
  }
  return true;
}

}  // namespace profagent
