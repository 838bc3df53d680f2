#include "agent/encode/sample_table.h"

#include <algorithm>

namespace profagent {
namespace {

constexpr size_t kReadAhead = 12;  // rows

uint64_t SaturatingSum(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

// The frame `at` steps from the root, as a number to sort by; 0: the stack ends before. (The value that this cannot
// tell from an end is no frame.)
uint64_t KeyAt(const ShownStack& stack, uint32_t at) {
  return at < stack.size() ? stack.FromRoot(at).value + 1 : 0;
}

uint64_t MedianOfThree(uint64_t a, uint64_t b, uint64_t c) {
  return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

// Rows by weight, the largest first, or rows of one stack by the rest. One function for both: std::sort is 3 KiB.
struct Before {
  bool by_weight;
  bool operator()(const SampleRow& a, const SampleRow& b) const {
    if (by_weight)
      return a.counts.weight != b.counts.weight ? a.counts.weight > b.counts.weight : a.order < b.order;
    return a.key.name != b.key.name ? a.key.name < b.key.name : a.key.size < b.key.size;
  }
};

// Sorts rows that agree in their first `at` frames from the root: by three-way partition on one frame at a time, so
// that what rows share is looked at once and not in every comparison. (Comparing whole stacks took twice the time.)
// `keyed`: their keys are those of that frame already, so that the stacks need not be looked at.
void SortFromRoot(std::span<SampleRow> rows, uint32_t at, bool keyed) {
  while (rows.size() > 1) {
    if (!keyed) {
      for (size_t i = 0; i < rows.size(); ++i) {
        if (i + kReadAhead < rows.size()) rows[i + kReadAhead].stack.PrefetchFromRoot(at);
        rows[i].order = KeyAt(rows[i].stack, at);
      }
    }
    uint64_t pivot = MedianOfThree(rows[rows.size() / 4].order, rows[rows.size() / 2].order,
                                   rows[rows.size() - 1 - rows.size() / 4].order);
    size_t less = 0, equal_end = 0, greater = rows.size();
    while (equal_end < greater) {
      uint64_t key = rows[equal_end].order;
      if (key < pivot) {
        std::swap(rows[less++], rows[equal_end++]);
      } else if (key > pivot) {
        std::swap(rows[equal_end], rows[--greater]);
      } else {
        ++equal_end;
      }
    }
    std::span<SampleRow> below = rows.first(less), above = rows.subspan(greater);
    std::span<SampleRow> same = rows.subspan(less, greater - less);
    if (pivot == 0) {  // equal stacks
      std::sort(same.begin(), same.end(), Before{.by_weight = false});
      same = {};
    }
    // The largest part goes on in this loop, so the recursion is never deeper than log2 of all rows.
    keyed = same.size() < below.size() || same.size() < above.size();
    if (!keyed) {
      SortFromRoot(below, at, true);
      SortFromRoot(above, at, true);
      rows = same;
      ++at;
      continue;
    }
    SortFromRoot(same, at + 1, false);
    bool below_is_larger = below.size() >= above.size();
    SortFromRoot(below_is_larger ? above : below, at, true);
    rows = below_is_larger ? below : above;
  }
}

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
  if (!rows_.Add(SampleRow{WithoutHiddenModule(frames), key, counts})) ++left_out_;
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

ShownStack SampleTable::WithoutHiddenLeaves(ShownStack stack) {
  uint32_t leaves = 0;
  while (leaves < stack.size() &&
         std::binary_search(hidden_leaves_.begin(), hidden_leaves_.end(), stack[leaves],
                            [](Frame a, Frame b) { return a.value < b.value; })) {
    ++leaves;
  }
  if (leaves < stack.size()) stack.RemoveLeaves(leaves);
  return stack;
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

void SampleTable::Finish() {
  for (uint32_t i = 0; i < rows_.size(); ++i) {
    if (i + kReadAhead < rows_.size()) rows_[i + kReadAhead].stack.PrefetchLeaf();
    rows_[i].stack = Cut(WithoutHiddenLeaves(rows_[i].stack));
  }
  SortFromRoot(rows_.span(), 0, false);
  AddUpNeighbours();
  std::span<SampleRow> rows = rows_.span();
  for (uint32_t i = 0; i < rows.size(); ++i) rows[i].order = i;
  std::sort(rows.begin(), rows.end(), Before{.by_weight = true});
}

void SampleTable::AddUpNeighbours() {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < rows_.size(); ++i) {
    const SampleRow& row = rows_[i];
    if (kept > 0 && row.IsSameAs(rows_[kept - 1])) {
      SampleCounts& sum = rows_[kept - 1].counts;
      sum.weight = SaturatingSum(sum.weight, row.counts.weight);
      sum.first = SaturatingSum(sum.first, row.counts.first);
      sum.second = SaturatingSum(sum.second, row.counts.second);
    } else {
      rows_[kept++] = row;
    }
  }
  while (rows_.size() > kept) rows_.RemoveLast();
}

}  // namespace profagent
