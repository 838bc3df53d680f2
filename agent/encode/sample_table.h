// The samples of one profile, as it will be written: equal ones added up, in their final order.
//
// Context:   `dump`, `offline`.
// Invariant: the order depends on the samples and on where the ledger has their stacks (largest weight first, then the stack that
//            was met first, then size and name), not on hash chains: equal ledgers give equal profiles. In that order
//            neighbours share most of their stacks, so that a profile of many compresses well (as well as sorted from their
//            roots, which took a third of the time that writing 130 000 samples takes), and memory is read from front to back.
// When full: samples are left out and counted.
#pragma once

#include <span>
#include <string_view>

#include "agent/base/function_ref.h"
#include "agent/base/signal_safe.h"
#include "agent/encode/tables.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

// What is added up for one sample; what the counts are is the kind's business (collect_samples.cc, profile_kind.cc).
struct SampleCounts {
  uint64_t weight = 0;  // what the profile shows by default: samples are written in its order
  uint64_t first = 0;
  uint64_t second = 0;
};

// What tells samples of one stack apart.
struct SampleKey {
  std::string_view name;  // of the thread, or the lock; empty: none
  uint64_t size = 0;      // bytes of a block
};

// A stack of the ledger's, leaf first, without frames that are hidden: not copied, where those follow one another.
class ShownStack {
 public:
  ShownStack() = default;
  explicit ShownStack(std::span<const Frame> frames) : frames_(frames.data()), size_(Count(frames.size())) {}
  // `before` frames are shown, `hidden` are not, then the rest is.
  ShownStack(std::span<const Frame> frames, size_t before, size_t hidden)
      : frames_(frames.data()),
        size_(Count(frames.size() - hidden)),
        before_(Count(before)),
        hidden_(Count(hidden)) {}

  PROF_ALWAYS_INLINE uint32_t size() const { return size_; }
  PROF_ALWAYS_INLINE Frame operator[](uint32_t i) const { return frames_[i < before_ ? i : i + hidden_]; }
  void RemoveLeaves(uint32_t count) {  // fewer than all
    frames_ += count < before_ ? count : count + hidden_;
    size_ = Count(size_ - count);
    before_ = Count(count < before_ ? before_ - count : 0);
    if (before_ == 0) hidden_ = 0;
  }
  void KeepFirst(uint32_t count) { size_ = Count(count); }
  PROF_ALWAYS_INLINE Frame FromRoot(uint32_t i) const { return (*this)[size_ - 1u - i]; }
  // All of it will be read soon, and is not in the cache where a profile is large.
  PROF_ALWAYS_INLINE void Prefetch() const {
    for (uint32_t i = 0; i < size_; i += kFramesACacheLine) __builtin_prefetch(&frames_[i]);
  }

  // Frames from the root on that are the same in both.
  PROF_ALWAYS_INLINE uint32_t SharedWith(const ShownStack& other) const {
    uint32_t shared = 0;
    while (shared < size_ && shared < other.size_ && FromRoot(shared) == other.FromRoot(shared)) ++shared;
    return shared;
  }

  bool operator==(const ShownStack& other) const;

 private:
  static_assert(kMaxStackRecord <= UINT16_MAX);
  static constexpr uint32_t kFramesACacheLine = 64 / sizeof(Frame);
  static uint16_t Count(size_t frames) { return static_cast<uint16_t>(frames); }

  const Frame* frames_ = nullptr;
  uint16_t size_ = 0;
  uint16_t before_ = 0;
  uint16_t hidden_ = 0;
};

struct SampleRow {
  ShownStack stack;
  SampleKey key;
  SampleCounts counts;
  const Frame* recorded = nullptr;  // where its stack was added from

  bool IsSameAs(const SampleRow& other) const {
    return key.size == other.key.size && key.name == other.key.name && stack == other.stack;
  }
};

class SampleTable {
 public:
  explicit SampleTable(Arena& arena) : arena_(arena), rows_(arena) {}

  // Before the first Add: frames of this module are left out of stacks, as long as any other frame is left.
  void HideModule(ModuleId module) { hidden_module_ = module; }

  // `frames` must outlive the table.
  void Add(std::span<const Frame> frames, const SampleKey& key, const SampleCounts& counts);

  // Stacks are cut to this, [truncated] being the last frame then. 0: not at all.
  void CutAt(uint32_t max_depth) { max_depth_ = max_depth != 0 ? max_depth : kMaxStackRecord; }

  // After the last Add: in the order of the ledger's memory, which is read from front to back then. Neighbours share most of
  // their stacks.
  void SortByPlace();
  // After the last Add: leaves such frames out at the leaf's end, as long as any other frame is left, cuts, adds up, sorts.
  void Finish(FunctionRef<bool(Frame)> is_hidden);

  std::span<const SampleRow> rows() { return rows_.span(); }
  uint64_t left_out() const { return left_out_; }  // for want of memory

 private:
  ShownStack WithoutHiddenModule(std::span<const Frame> stack);
  ShownStack Cut(ShownStack stack);

  Arena& arena_;
  GrowingArray<SampleRow> rows_;
  ModuleId hidden_module_ = ModuleId::kNone;
  uint32_t max_depth_ = kMaxDepthLimit;
  uint64_t left_out_ = 0;
};

}  // namespace profagent
