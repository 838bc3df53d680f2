#include "agent/encode/frame_table.h"

#include "agent/encode/sort_ascending.h"

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
  auto* frames = arena_.AllocateArray<Frame>(entries.size());
  auto* named = arena_.AllocateArray<FunctionSymbol>(entries.size());
  if (frames == nullptr || named == nullptr) return false;
  for (size_t i = 0; i < entries.size(); ++i) frames[i] = entries[i].frame;
  if (!SortAscending(std::span(frames, entries.size()), arena_)) return false;
  if (!modules_.NameFrames({frames, entries.size()}, {named, entries.size()})) return false;
  for (size_t i = 0; i < entries.size(); ++i) symbols_[Find(frames[i])] = named[i];
  named_ = entries_.size();
  return true;
}

}  // namespace profagent
