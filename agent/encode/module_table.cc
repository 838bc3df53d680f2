#include "agent/encode/module_table.h"

namespace profagent {

bool ModuleTable::Collect() {
  entries_ = arena_.AllocateArray<Entry*>(kSlots);
  if (entries_ == nullptr) return false;
  count_ = 0;
  damaged_ = 0;
  program_ = nullptr;
  damaged_ += ledger_.ForEachModule([&](const LedgerView::Module& module) {
    if ((module.flags & kModuleMoreText) != 0) return;
    auto id = static_cast<uint32_t>(module.id);
    if (id == 0 || id >= kSlots || entries_[id] != nullptr) {
      ++damaged_;
      return;
    }
    entries_[id] = Add(module, nullptr);
    if ((module.flags & kModuleIsAgent) != 0) agent_ = module.id;
  });
  ledger_.ForEachModule([&](const LedgerView::Module& module) {
    Entry* first = Find(module.id);
    if ((module.flags & kModuleMoreText) == 0 || first == nullptr) return;
    // Newest first: one that was written later comes behind those that were written before it.
    if (Entry* entry = Add(module, first->more); entry != nullptr) first->more = entry;
  });
  for (uint32_t id = 1; id < kSlots && program_ == nullptr; ++id) {
    if (entries_[id] != nullptr && (entries_[id]->module.flags & kModuleIsProgram) != 0)
      program_ = entries_[id];
  }
  return true;
}

// nullptr: no memory. Frames of a module that is not there are named by its number.
ModuleTable::Entry* ModuleTable::Add(const LedgerView::Module& module, Entry* more) {
  auto* entry = arena_.AllocateArray<Entry>(1);
  if (entry == nullptr) return nullptr;
  *entry = Entry{module, 0, more};
  ++count_;
  return entry;
}

ModuleTable::Entry* ModuleTable::Find(Frame frame) const {
  Entry* first = Find(frame.module());
  for (Entry* entry = first; entry != nullptr && first->more != nullptr; entry = entry->more) {
    const LedgerView::Module& module = entry->module;
    if (frame.offset() + first->module.load_bias - module.text_start < module.text_limit - module.text_start)
      return entry;
  }
  return first;
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
