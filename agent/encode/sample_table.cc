#include "agent/encode/sample_table.h"

#include <algorithm>

namespace profagent {
namespace {

uint64_t Hash(std::span<const Frame> stack, std::string_view name) {
  uint64_t hash = stack.size();
  for (Frame frame : stack) {
    hash = (hash ^ frame.value) * 0x9fb21c651e98df25;
    hash ^= hash >> 32;
  }
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

bool SameStack(std::span<const Frame> a, std::span<const Frame> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

bool GoesBefore(const SampleRow& a, const SampleRow& b) {
  if (a.weight != b.weight) return a.weight > b.weight;
  uint32_t common = a.depth < b.depth ? a.depth : b.depth;
  for (uint32_t i = 0; i < common; ++i) {
    if (a.frames[i].value != b.frames[i].value) return a.frames[i].value < b.frames[i].value;
  }
  if (a.depth != b.depth) return a.depth < b.depth;
  return a.name() < b.name();
}

}  // namespace

void SampleTable::Add(std::span<const Frame> stack, std::string_view name, uint64_t weight) {
  if (weight == 0) return;
  stack = WithoutHidden(stack);
  uint64_t hash = Hash(stack, name);
  uint32_t found = index_.Find(
      hash, [&](uint32_t i) { return SameStack(rows_[i].stack(), stack) && rows_[i].name() == name; });
  if (found != HashIndex::kNone) {
    uint64_t& sum = rows_[found].weight;
    sum = sum + weight < sum ? UINT64_MAX : sum + weight;
    return;
  }
  SampleRow row{stack.data(), static_cast<uint32_t>(stack.size()), static_cast<uint32_t>(name.size()),
                name.data(), weight};
  if (!rows_.Add(row)) {
    ++left_out_;
    return;
  }
  if (!index_.Add(hash, rows_.size() - 1)) {
    rows_.RemoveLast();
    ++left_out_;
  }
}

// Time in a hook of ours (or under the function that every thread of an interposed pthread_create starts in)
// belongs to the application's frames around it.
std::span<const Frame> SampleTable::WithoutHidden(std::span<const Frame> stack) {
  if (hidden_ == ModuleId::kNone) return stack;
  auto is_hidden = [&](Frame frame) { return frame.module() == hidden_; };
  size_t hidden = static_cast<size_t>(std::count_if(stack.begin(), stack.end(), is_hidden));
  if (hidden == 0 || hidden == stack.size()) return stack;
  Frame* kept = arena_.AllocateArray<Frame>(stack.size() - hidden);
  if (kept == nullptr) return stack;
  std::copy_if(stack.begin(), stack.end(), kept, [&](Frame frame) { return !is_hidden(frame); });
  return {kept, stack.size() - hidden};
}

void SampleTable::Sort() { std::sort(rows_.span().begin(), rows_.span().end(), GoesBefore); }

}  // namespace profagent
