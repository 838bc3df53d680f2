#include "agent/encode/lock_names.h"

#include <algorithm>

#include "agent/encode/sort_ascending.h"
#include "agent/ledger/lock_label.h"

namespace profagent {
namespace {

bool Before(Frame a, Frame b) { return a.value < b.value; }

}  // namespace

void LockNames::Add(std::string_view label) {
  if (auto place = StaticPlace(label)) frames_.Add(*place);
}

void LockNames::Resolve() {
  std::span<Frame> frames = frames_.span();
  if (!SortAscending(frames, arena_)) return;
  size_t count = static_cast<size_t>(std::unique(frames.begin(), frames.end()) - frames.begin());
  while (frames_.size() > count) frames_.RemoveLast();
  frames = frames.first(count);
  auto* symbols = arena_.AllocateArray<FunctionSymbol>(count);
  auto* names = arena_.AllocateArray<std::string_view>(count);
  if (symbols == nullptr || names == nullptr || !modules_.NameVariables(frames, {symbols, count})) return;
  for (size_t i = 0; i < count; ++i) names[i] = NameOf(frames[i], symbols[i]);
  names_ = names;
}

std::string_view LockNames::NameOf(Frame place, const FunctionSymbol& symbol) const {
  FixedText<320> text;
  uint64_t distance = place.offset();
  if (!symbol.name.empty()) {
    text.Add(symbol.name.substr(0, 256));
    distance -= symbol.start;
  } else {
    const ModuleTable::Entry* entry = modules_.Find(place.module());
    std::string_view path = entry != nullptr ? entry->module.path : "?";
    text.Add(path.substr(path.rfind('/') + 1).substr(0, 256));
  }
  if (distance != 0) text.Add("+", Hex{distance});
  return arena_.Copy(text.view());
}

std::string_view LockNames::Name(std::string_view label) const {
  auto place = StaticPlace(label);
  if (!place || names_ == nullptr) return label;
  std::span<const Frame> frames = frames_.span();
  auto found = std::lower_bound(frames.begin(), frames.end(), *place, Before);
  if (found == frames.end() || !(*found == *place)) return label;
  std::string_view name = names_[found - frames.begin()];
  return name.empty() ? label : name;
}

}  // namespace profagent
