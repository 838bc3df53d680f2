#include "agent/encode/frame_table.h"

#include <algorithm>

namespace profagent {

uint32_t FrameTable::Add(Frame frame) {
  uint32_t number = Find(frame);
  if (number != kNone) return number;
  if (!entries_.Add(Entry{.frame = frame, .symbol = {}})) return kNone;
  number = entries_.size() - 1;
  if (index_.Add(frame.value, number)) return number;
  entries_.RemoveLast();
  return kNone;
}

bool FrameTable::Name() {
  std::span<Entry> entries = entries_.span().subspan(named_);
  named_ = entries_.size();
  auto* order = arena_.AllocateArray<uint32_t>(entries.size());
  auto* frames = arena_.AllocateArray<Frame>(entries.size());
  auto* symbols = arena_.AllocateArray<FunctionSymbol>(entries.size());
  if (order == nullptr || frames == nullptr || symbols == nullptr) return false;
  for (uint32_t i = 0; i < entries.size(); ++i) order[i] = i;
  std::sort(order, order + entries.size(),
            [&](uint32_t a, uint32_t b) { return entries[a].frame.value < entries[b].frame.value; });
  for (size_t i = 0; i < entries.size(); ++i) frames[i] = entries[order[i]].frame;
  bool named = modules_.NameFrames({frames, entries.size()}, {symbols, entries.size()});
  for (size_t i = 0; i < entries.size(); ++i) entries[order[i]].symbol = symbols[i];
  return named;
}

}  // namespace profagent
