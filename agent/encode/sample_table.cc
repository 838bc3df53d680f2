#include "agent/encode/sample_table.h"

#include <algorithm>

namespace profagent {
namespace {

uint64_t Hash(const ShownStack& stack, const SampleKey& key) {
  uint64_t hash = stack.size() ^ key.size << 16;
  for (uint32_t i = 0; i < stack.size(); ++i) {
    hash = (hash ^ stack[i].value) * 0x9fb21c651e98df25;
    hash ^= hash >> 32;
  }
  for (char c : key.name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

uint64_t SaturatingSum(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

// One function for both: std::sort is 3 KiB.
struct Before {
  bool by_weight;
  bool operator()(const SampleRow& a, const SampleRow& b) const {
    if (by_weight && a.counts.weight != b.counts.weight) return a.counts.weight > b.counts.weight;
    if (a.recorded != b.recorded) return a.recorded < b.recorded;
    return a.key.size != b.key.size ? a.key.size < b.key.size : a.key.name < b.key.name;
  }
};

}  // namespace

bool ShownStack::operator==(const ShownStack& other) const {
  if (size_ != other.size_) return false;
  if (frames_ == other.frames_ && before_ == other.before_ && hidden_ == other.hidden_) return true;
  for (uint32_t i = 0; i < size_; ++i) {
    if (!((*this)[i] == other[i])) return false;
  }
  return true;
}

void SampleTable::Add(std::span<const Frame> frames, const SampleKey& key, const SampleCounts& counts) {
  if (counts.weight == 0 && counts.first == 0 && counts.second == 0) return;
  if (!rows_.Add(SampleRow{WithoutHiddenModule(frames), key, counts, frames.data()})) ++left_out_;
}

// Time in a hook of ours (or under the function that every thread of an interposed pthread_create starts in)
// belongs to the application's frames around it.
ShownStack SampleTable::WithoutHiddenModule(std::span<const Frame> stack) {
  if (hidden_module_ == ModuleId::kNone) return ShownStack(stack);
  auto is_hidden = [&](Frame frame) { return frame.module() == hidden_module_; };
  auto first = std::find_if(stack.begin(), stack.end(), is_hidden);
  auto behind = std::find_if_not(first, stack.end(), is_hidden);
  if (behind - first == std::ssize(stack)) return ShownStack(stack);
  ShownStack shown(stack, static_cast<size_t>(first - stack.begin()), static_cast<size_t>(behind - first));
  auto others = std::count_if(behind, stack.end(), is_hidden);
  if (others == 0) return shown;
  auto* kept = arena_.AllocateArray<Frame>(shown.size() - static_cast<size_t>(others));
  if (kept == nullptr) return shown;
  Frame* end = std::copy_if(stack.begin(), stack.end(), kept, [&](Frame frame) { return !is_hidden(frame); });
  return ShownStack({kept, end});
}

ShownStack SampleTable::Cut(ShownStack stack) {
  if (stack.size() <= max_depth_) return stack;
  auto* kept = arena_.AllocateArray<Frame>(max_depth_);
  if (kept == nullptr) {
    stack.KeepFirst(max_depth_);
    return stack;
  }
  for (uint32_t i = 0; i < max_depth_; ++i) kept[i] = stack[i];
  kept[max_depth_ - 1] = MakeSynthetic(SyntheticFrame::kTruncated);
  return ShownStack({kept, max_depth_});
}

void SampleTable::SortByPlace() {
  std::span<SampleRow> rows = rows_.span();
  std::sort(rows.begin(), rows.end(), Before{.by_weight = false});
}

void SampleTable::Finish(FunctionRef<bool(Frame)> is_hidden) {
  SortByPlace();
  HashIndex index(arena_);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < rows_.size(); ++i) {
    SampleRow& row = rows_[i];
    uint32_t leaves = 0;
    while (leaves < row.stack.size() && is_hidden(row.stack[leaves])) ++leaves;
    if (leaves < row.stack.size()) row.stack.RemoveLeaves(leaves);
    row.stack = Cut(row.stack);
    // Hiding makes some equal, and two threads that met a stack in the same instant.
    uint64_t hash = Hash(row.stack, row.key);
    uint32_t same = index.Find(hash, [&](uint32_t other) { return row.IsSameAs(rows_[other]); });
    if (same == HashIndex::kNone) {
      rows_[kept] = row;
      index.Add(hash, kept++);  // without memory it stands for itself
      continue;
    }
    SampleCounts& sum = rows_[same].counts;
    sum.weight = SaturatingSum(sum.weight, row.counts.weight);
    sum.first = SaturatingSum(sum.first, row.counts.first);
    sum.second = SaturatingSum(sum.second, row.counts.second);
  }
  while (rows_.size() > kept) rows_.RemoveLast();
  std::span<SampleRow> rows = rows_.span();
  std::sort(rows.begin(), rows.end(), Before{.by_weight = true});
}

}  // namespace profagent
