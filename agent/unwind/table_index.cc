#include "agent/unwind/table_index.h"

namespace profagent {

bool TableIndex::Build(const EhFrameTables& tables, uint32_t* room) {
  uint64_t width = TableWidth(tables);
  uint64_t count = tables.table_count;
  first_start_ = TableValue(tables, tables.table, width);
  uintptr_t last_start = TableValue(tables, tables.table + (count - 1) * 2 * width, width);
  // The second: tables that lie. No shift would bring a range of 2^63 and more down to one bucket.
  if (last_start < first_start_ || last_start - first_start_ >= kLargestRange) return false;
  uint64_t most = count / kStride + 1;
  shift_ = 0;
  while ((last_start - first_start_) >> shift_ >= most) ++shift_;
  bucket_count_ = ((last_start - first_start_) >> shift_) + 1;
  begins_ = room;

  uint64_t bucket = 0;
  uint32_t met = 0;
  uintptr_t previous = first_start_;
  for (uint64_t i = 0; i < count; i += kStride, ++met) {
    uintptr_t start = TableValue(tables, tables.table + i * 2 * width, width);
    if (start < previous || start > last_start) return false;
    previous = start;
    for (uint64_t own = (start - first_start_) >> shift_; bucket <= own; ++bucket) room[bucket] = met;
  }
  for (; bucket < bucket_count_; ++bucket) room[bucket] = met;
  return true;
}

}  // namespace profagent
