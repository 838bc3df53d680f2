// Sorts 64-bit values by their bytes, least significant first, passing over bytes that all of them share.
//
// Context: `dump`, `offline`; memory from an Arena.
// Why:     std::sort guesses every second comparison of frames wrong: it took more than 50 us for the 900 of a second of clang, and this 8.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "agent/base/arena.h"

namespace profagent {

// False: no memory, and they stand as they did.
template <class T>
[[nodiscard]] bool SortAscending(std::span<T> values, Arena& arena) {
  static_assert(sizeof(T) == sizeof(uint64_t));
  auto key = [](const T& value) { return std::bit_cast<uint64_t>(value); };
  uint64_t differing = 0;
  for (const T& value : values) differing |= key(value) ^ key(values[0]);
  if (differing == 0) return true;
  T* other = arena.AllocateArray<T>(values.size());
  if (other == nullptr) return false;
  std::span<T> from = values, to(other, values.size());
  for (unsigned shift = 0; shift < 64; shift += 8) {
    if ((differing >> shift & 0xff) == 0) continue;
    uint32_t ends[257] = {};  // [d + 1]: how many have the digit d; then [d]: where the next one of them goes
    for (const T& value : from) ++ends[(key(value) >> shift & 0xff) + 1];
    for (unsigned digit = 1; digit < 256; ++digit) ends[digit] += ends[digit - 1];
    for (const T& value : from) to[ends[key(value) >> shift & 0xff]++] = value;
    std::swap(from, to);
  }
  if (from.data() != values.data()) std::copy(from.begin(), from.end(), values.begin());
  arena.GiveBack(other);
  return true;
}

}  // namespace profagent
