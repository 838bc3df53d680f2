// profile.proto's string table: each text once, numbered by first use; number 0 is the empty one.
//
// Context:   `dump`, `offline`.
// Invariant: every text in it is valid UTF-8, as proto3 demands of strings: readers refuse a whole profile for one
//            bad byte, and the kernel cuts thread names in the middle of a letter. Bad bytes become `?`.
// When full: Add answers 0 and out_of_memory() says so.
#pragma once

#include <string_view>

#include "agent/encode/tables.h"

namespace profagent {

class StringTable {
 public:
  explicit StringTable(Arena& arena);

  // `text` must outlive the table.
  uint32_t Add(std::string_view text);
  // For a text that is put together in passing.
  uint32_t AddCopy(std::string_view text);

  uint32_t size() const { return texts_.size(); }
  std::string_view operator[](uint32_t number) const { return texts_[number]; }
  bool out_of_memory() const { return out_of_memory_; }

 private:
  uint32_t AddValid(std::string_view text, bool copy);

  Arena& arena_;
  GrowingArray<std::string_view> texts_;
  HashIndex index_;
  bool out_of_memory_ = false;
};

}  // namespace profagent
