// A stretch of memory, and the one comparison that every bounded read goes through.
//
// Context:   every one. Plain data.
// Invariant: no sum is ever formed, so addresses and sizes near 2^64 cannot wrap into the range.
#pragma once

#include <cstddef>
#include <cstdint>

namespace profagent {

struct MemoryRange {
  uintptr_t start = 0;
  uintptr_t limit = 0;  // first address behind it

  constexpr bool Holds(uintptr_t address, size_t size) const {
    return address >= start && address <= limit && limit - address >= size;
  }
  constexpr bool empty() const { return limit <= start; }
};

}  // namespace profagent
