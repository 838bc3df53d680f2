// Numbers that cannot be mixed up: nanoseconds, bytes, hertz and code addresses have types of their own.
//
// Context: every one. Plain data; convert at the system-call or wire boundary through `.value`.
#pragma once

#include <compare>
#include <cstdint>

namespace profagent {

template <class Tag, class Rep = uint64_t>
struct Quantity {
  Rep value = 0;

  constexpr Quantity() = default;
  constexpr explicit Quantity(Rep v) : value(v) {}
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the comparison's 0 for a pointer
  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity operator+(Quantity other) const { return Quantity(value + other.value); }
  constexpr Quantity operator-(Quantity other) const { return Quantity(value - other.value); }
  constexpr Quantity operator*(Rep factor) const { return Quantity(value * factor); }
};

using Nanos = Quantity<struct NanosTag>;
using Bytes = Quantity<struct BytesTag>;
using Hertz = Quantity<struct HertzTag, uint32_t>;

inline constexpr uint64_t kNanosPerSecond = 1'000'000'000;

// Points at an instruction itself.
struct CodeAddress {
  uintptr_t value = 0;
  constexpr auto operator<=>(const CodeAddress&) const = default;
};

}  // namespace profagent
