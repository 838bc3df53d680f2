// A coarse index over a large sorted .eh_frame_hdr table: from a stretch of code to the entries that begin in it.
//
// Context: Build and Narrow in `signal` and `hook`.
// Why:     a decoding is nearly always of code that was never met before, so all that it reads is cold. Bisecting
//          the 83 000 entries of libclang-cpp meets 13 cache lines on 8 pages, more than half of a decoding's
//          time; with the index some 16 to 48 entries are left to bisect. (Guessing by proportion was tried: functions are
//          too uneven, it meets 10.)
// When:    built by the walk that decodes the kThreshold-th address of a large object, from every kStride-th entry of the
//          table, once a module; programs that are hardly sampled pay nothing.
// Memory:  a quarter of a byte an entry, from a region that the caller reserved.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/unwind/eh_frame.h"

namespace profagent {

class TableIndex {
 public:
  static constexpr uint32_t kThreshold = 16;                      // decodings
  static constexpr uint64_t kSmallTable = 512;                    // entries: bisecting 4 KiB is as good
  static constexpr uint64_t kLargestTable = 1u << 22;             // entries
  static constexpr uint64_t kStride = 16;                         // entries: two cache lines
  static constexpr uintptr_t kLargestRange = uintptr_t{1} << 47;  // bytes: all of a process's addresses

  // How many uint32_t Build needs.
  static PROF_ALWAYS_INLINE uint64_t SizeFor(const EhFrameTables& tables) {
    return tables.table_count / kStride + 2;
  }

  // Fills this index in `room`. False: the table, which has entries, is seen not to be sorted, or is of no object that
  // could be mapped.
  PROF_SIGNAL_SAFE bool Build(const EhFrameTables& tables, uint32_t* room);

  // Narrows a search for pc to [*low, *high): everything before *low begins at or before pc, everything from
  // *high on behind it.
  PROF_ALWAYS_INLINE void Narrow(const EhFrameTables& tables, uintptr_t pc, uint64_t* low,
                                 uint64_t* high) const {
    if (pc < first_start_) {
      *high = 0;
      return;
    }
    uint64_t bucket = (pc - first_start_) >> shift_;
    if (bucket >= bucket_count_) bucket = bucket_count_ - 1;
    uint64_t before = begins_[bucket];
    if (before > 0) *low = (before - 1) * kStride + 1;
    if (bucket + 1 < bucket_count_ && begins_[bucket + 1] * kStride < *high)
      *high = begins_[bucket + 1] * kStride;
  }

 private:
  // By bucket: how many of the entries 0, kStride, 2 * kStride, ... begin before it.
  const uint32_t* begins_ = nullptr;
  uint64_t bucket_count_ = 0;
  uintptr_t first_start_ = 0;
  unsigned shift_ = 0;
};

// Columns of the sorted table.
PROF_ALWAYS_INLINE uint64_t TableWidth(const EhFrameTables& tables) {
  return tables.table_encoding == (kPointerDataRelative | kPointerSdata8) ? 8 : 4;
}
PROF_ALWAYS_INLINE uintptr_t TableValue(const EhFrameTables& tables, uintptr_t at, uint64_t width) {
  if (width == 8) {
    uint64_t value;
    std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof value);
    return tables.header + value;
  }
  int32_t value;
  std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof value);
  return tables.header + static_cast<uintptr_t>(static_cast<intptr_t>(value));
}

}  // namespace profagent
