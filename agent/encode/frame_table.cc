#include "agent/encode/frame_table.h"

#include <algorithm>

namespace profagent {

uint32_t FrameTable::AddNew(Frame frame) {
  if (!entries_.Add(Entry{frame})) return kNone;
  uint32_t number = entries_.size() - 1;
  if (index_.Add(frame.value, number)) return number;
  entries_.RemoveLast();
  return kNone;
}

bool FrameTable::Name() {
  std::span<const Entry> entries = entries_.span().subspan(named_);
  if (entries.empty()) return true;
  void* symbols =
      arena_.Extend(symbols_, named_ * sizeof(FunctionSymbol), entries_.size() * sizeof(FunctionSymbol));
  if (symbols == nullptr) return false;
  symbols_ = static_cast<FunctionSymbol*>(symbols);  // it may have moved
  auto* order = arena_.AllocateArray<uint32_t>(entries.size());
  auto* frames = arena_.AllocateArray<Frame>(entries.size());
  auto* named = arena_.AllocateArray<FunctionSymbol>(entries.size());
  if (order == nullptr || frames == nullptr || named == nullptr) return false;
  for (uint32_t i = 0; i < entries.size(); ++i) order[i] = i;
  std::sort(order, order + entries.size(),
            [&](uint32_t a, uint32_t b) { return entries[a].frame.value < entries[b].frame.value; });
  for (size_t i = 0; i < entries.size(); ++i) frames[i] = entries[order[i]].frame;
  if (!modules_.NameFrames({frames, entries.size()}, {named, entries.size()})) return false;
  for (size_t i = 0; i < entries.size(); ++i) symbols_[named_ + order[i]] = named[i];
  named_ = entries_.size();
  return true;
}

}  // namespace profagent
