// The samples of one profile, as it will be written: equal ones added up, in their final order.
//
// Context:   `dump`, `offline`.
// Invariant: the order depends on the samples alone (largest value first, then the stack from its root, then the
//            thread name), not on hash chains or on which thread recorded first: equal ledger content gives equal
//            profiles. From the root, because neighbours then share most of their stacks, and a profile of many
//            stacks takes a third less space compressed than in an order from the leaf.
// When full: samples are left out and counted.
#pragma once

#include <span>
#include <string_view>

#include "agent/encode/tables.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

struct SampleRow {
  const Frame* frames;  // leaf first, without those of the agent itself
  uint32_t depth;
  uint32_t name_size;
  const char* name_data;  // of the thread
  uint64_t weight;        // what the profile counts: ticks of a CPU profile

  std::span<const Frame> stack() const { return {frames, depth}; }
  std::string_view name() const { return {name_data, name_size}; }
};

class SampleTable {
 public:
  explicit SampleTable(Arena& arena) : arena_(arena), rows_(arena), index_(arena) {}

  // Frames of this module are left out of stacks, as long as any other frame is left.
  void Hide(ModuleId module) { hidden_ = module; }

  void Add(std::span<const Frame> stack, std::string_view name, uint64_t weight);
  void Sort();

  std::span<const SampleRow> rows() { return rows_.span(); }
  uint64_t left_out() const { return left_out_; }  // for want of memory

 private:
  std::span<const Frame> WithoutHidden(std::span<const Frame> stack);

  Arena& arena_;
  GrowingArray<SampleRow> rows_;
  HashIndex index_;
  ModuleId hidden_ = ModuleId::kNone;
  uint64_t left_out_ = 0;
};

}  // namespace profagent
