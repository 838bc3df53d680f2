// The kinds of profiles: what their samples are called, and what the counted becomes when it is written.
//
// Context: `dump`, `offline`. Pure functions.
// Source:  Go's runtime/pprof, whose types, order and arithmetic these are. A new kind adds a row to Describe and a case
//          to ValuesOf here, and one to CollectSamples (collect_samples.cc).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "agent/encode/sample_table.h"
#include "agent/ledger/layout.h"

namespace profagent {

enum class ProfileKind : uint8_t {
  kCpu,
  kHeap,      // what is live and what was allocated, as Go's heap profile: unsampled as it is written
  kAllocs,    // the same; shows alloc_space unless asked otherwise
  kHeapPeak,  // what was live when the heap was at its largest (agent/ledger/heap_sites.h)
  kBlock,     // waits, at the stack of the waiter; those that have not ended yet too
  kMutex,     // the same time, at the stack of who unlocked
};

constexpr bool IsHeap(ProfileKind kind) {
  return kind == ProfileKind::kHeap || kind == ProfileKind::kAllocs || kind == ProfileKind::kHeapPeak;
}

struct ValueType {
  std::string_view type, unit;
};

struct KindDescription {
  std::span<const ValueType> sample_types;
  ValueType period_type;
  std::string_view name_label;    // key of SampleKey::name in the profile; empty: samples have none
  std::string_view size_label;    // key of SampleKey::size
  std::string_view default_type;  // empty: the last one
};
inline constexpr uint32_t kMaxValues = 4;

KindDescription Describe(ProfileKind kind);

// What field `period` says: nanoseconds, bytes or contentions between two samples. 0: no such profile was taken.
uint64_t PeriodOf(ProfileKind kind, const LedgerHeader& header);

// A row's values in the order of sample_types; as many as these.
void ValuesOf(ProfileKind kind, uint64_t period, const SampleRow& row, uint64_t* values);

// a * b, at most INT64_MAX: more can only come from a damaged ledger.
uint64_t Product(uint64_t a, uint64_t b);

}  // namespace profagent
