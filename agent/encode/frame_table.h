// The frames of a profile, each once, and the functions that they are in.
//
// Context: `dump`, `offline`; memory from an Arena.
// Why:     whoever needs a name asks for all others, too: naming a few frames of a module takes a pass over its symbols like naming
//          all of them does (1.5 ms for those of clang).
#pragma once

#include <cstdint>
#include <span>

#include "agent/base/signal_safe.h"
#include "agent/encode/module_table.h"
#include "agent/encode/symbol_source.h"
#include "agent/encode/tables.h"

namespace profagent {

class FrameTable {
 public:
  static constexpr uint32_t kNone = HashIndex::kNone;

  struct Entry {
    Frame frame;
    uint32_t location = 0;   // id in the profile; 0: no sample was written that has it
    bool allocates = false;  // it is hidden where it is a heap profile's leaf
  };
  static_assert(sizeof(Entry) == 16);  // every frame of every sample is looked up in here

  FrameTable(const ModuleTable& modules, Arena& arena)
      : modules_(modules), arena_(arena), entries_(arena), index_(arena) {}

  // The frame's number, a new one if need be: they are given from 0 on. kNone: no memory.
  PROF_ALWAYS_INLINE uint32_t Add(Frame frame) {
    uint32_t number = Find(frame);
    return number != kNone ? number : AddNew(frame);
  }
  // kNone: it was not added.
  PROF_ALWAYS_INLINE uint32_t Find(Frame frame) const {
    return index_.Find(frame.value, [&](uint32_t i) { return entries_[i].frame == frame; });
  }
  bool Allocates(Frame frame) const {
    uint32_t number = Find(frame);
    return number != kNone && entries_[number].allocates;
  }
  Entry& operator[](uint32_t number) { return entries_[number]; }
  const Entry& operator[](uint32_t number) const { return entries_[number]; }
  uint32_t size() const { return entries_.size(); }

  // Names all that have no symbol yet. False: no memory, and it may be tried again.
  [[nodiscard]] bool Name();
  // Without a name: not known, or Name was not called since.
  FunctionSymbol SymbolOf(uint32_t number) const {
    return number < named_ ? symbols_[number] : FunctionSymbol();
  }

 private:
  uint32_t AddNew(Frame frame);

  const ModuleTable& modules_;
  Arena& arena_;
  GrowingArray<Entry> entries_;
  HashIndex index_;
  FunctionSymbol* symbols_ = nullptr;
  uint32_t named_ = 0;  // of the entries: the first ones, whose symbols those are
};

}  // namespace profagent
