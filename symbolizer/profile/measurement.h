// Values with units, as pprof scales and prints them: bytes by 1024, times from ns to hrs, GCU by 1000.
//
// The digits are part of the contract (reports are compared with `go tool pprof` byte for byte), and so is
// what happens at the edges: Go's arithmetic wraps, and its conversion of a float that does not fit gives the
// smallest integer.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace profagent {

struct Measurement {
  double value;
  std::string_view
      unit;  // "" where printing it would say nothing (count, sample...). May be the to_unit passed in
};

// `to_unit` may be "minimum" or "auto": the largest unit in which the value is at least 1.
Measurement Scale(int64_t value, std::string_view from_unit, std::string_view to_unit);

// "1.50MB": two decimals, none if they are zeros; "0" without a unit.
std::string ScaledLabel(int64_t value, std::string_view from_unit, std::string_view to_unit);

// Six characters wide: " 3.14%", "  100%", "0.099%", " 1e-05%".
std::string Percentage(int64_t value, int64_t total);

// Both units measure the same thing (time, memory, GCU).
bool SameKindOfUnit(std::string_view one, std::string_view other);

// Go's arithmetic.
int64_t GoInt64(double value);
constexpr int64_t WrappingAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
constexpr int64_t WrappingMultiply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
constexpr int64_t WrappingAbs(int64_t a) {
  return a < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a;
}
constexpr int64_t WrappingDivide(int64_t a, int64_t b) {
  return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
}

}  // namespace profagent
