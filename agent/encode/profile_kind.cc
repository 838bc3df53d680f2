#include "agent/encode/profile_kind.h"

#include <algorithm>
#include <array>

#include "agent/base/logarithm.h"
#include "agent/base/plain_floats.h"
#include "agent/base/units.h"

namespace profagent {
namespace {

constexpr ValueType kCpuTypes[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
constexpr ValueType kHeapTypes[] = {{"alloc_objects", "count"},
                                    {"alloc_space", "bytes"},
                                    {"inuse_objects", "count"},
                                    {"inuse_space", "bytes"}};
constexpr ValueType kPeakTypes[] = {{"peak_objects", "count"}, {"peak_space", "bytes"}};
constexpr ValueType kContentionTypes[] = {{"contentions", "count"}, {"delay", "nanoseconds"}};
constexpr ValueType kSpace = {"space", "bytes"};

constexpr uint64_t kMaxValue = INT64_MAX;

uint64_t Truncated(double value) {
  return value < static_cast<double>(kMaxValue) ? static_cast<uint64_t>(value) : kMaxValue;
}

// values[0] objects and values[1] bytes for which `count` sampled blocks of `size` bytes stand: the arithmetic of Go's
// scaleHeapSample (runtime/pprof/protomem.go), step by step, so that results agree to the digit.
void Unsample(uint64_t count, uint64_t size, uint64_t rate, uint64_t* values) {
  values[0] = values[1] = 0;
  if (count == 0 || (size == 0 && rate > 1)) return;
  uint64_t bytes = Product(count, size);
  values[0] = std::min(count, kMaxValue);
  values[1] = bytes;
  if (rate <= 1) return;  // exact: blocks of no bytes (which Go does not have) are counted too
  std::array<uint64_t, 2> unsampled = WithPlainFloats(
      [](uint64_t objects, uint64_t space, uint64_t mean) {
        double scale = 1 / (1 - ExpOfNegative(static_cast<double>(space) / static_cast<double>(objects) /
                                              static_cast<double>(mean)));
        return std::array<uint64_t, 2>{Truncated(static_cast<double>(objects) * scale),
                                       Truncated(static_cast<double>(space) * scale)};
      },
      count, bytes, rate);
  values[0] = unsampled[0];
  values[1] = unsampled[1];
}

}  // namespace

KindDescription Describe(ProfileKind kind) {
  switch (kind) {
    case ProfileKind::kCpu:
      return {kCpuTypes, {"cpu", "nanoseconds"}, "thread", {}, {}};
    case ProfileKind::kHeap:
      return {kHeapTypes, kSpace, {}, "bytes", {}};
    case ProfileKind::kAllocs:
      return {kHeapTypes, kSpace, {}, "bytes", "alloc_space"};
    case ProfileKind::kHeapPeak:
      return {kPeakTypes, kSpace, {}, "bytes", {}};
    case ProfileKind::kBlock:
    case ProfileKind::kMutex:
      return {kContentionTypes, {"contentions", "count"}, "lock", {}, {}};
  }
  return {};
}

uint64_t Product(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) || product > kMaxValue ? kMaxValue : product;
}

uint64_t PeriodOf(ProfileKind kind, const LedgerHeader& header) {
  switch (kind) {
    case ProfileKind::kCpu: {
      uint32_t hz = header.cpu_hz.load(std::memory_order_relaxed);
      return hz != 0 ? kNanosPerSecond / hz : 0;
    }
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      return header.heap_rate.load(std::memory_order_relaxed);
    case ProfileKind::kBlock:
    case ProfileKind::kMutex:
      return 1;
  }
  return 0;
}

void ValuesOf(ProfileKind kind, uint64_t period, const SampleRow& row, uint64_t* values) {
  const SampleCounts& counts = row.counts;
  switch (kind) {
    case ProfileKind::kCpu:
      values[0] = std::min(counts.weight, kMaxValue);
      values[1] = Product(counts.weight, period);
      break;
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
      Unsample(counts.first, row.key.size, period, values);
      Unsample(counts.second, row.key.size, period, values + 2);
      break;
    case ProfileKind::kHeapPeak:
      Unsample(counts.first, row.key.size, period, values);
      break;
    case ProfileKind::kBlock:
    case ProfileKind::kMutex:
      // At least 1, as Go: a wait that is shown with its time did happen.
      values[0] = std::max<uint64_t>(std::min(counts.first, kMaxValue) / kContentionUnit, 1);
      values[1] = std::min(counts.weight, kMaxValue);
      break;
  }
}

}  // namespace profagent
