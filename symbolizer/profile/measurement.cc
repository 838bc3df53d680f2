#include "symbolizer/profile/measurement.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <span>

namespace profagent {
namespace {

struct Unit {
  std::string_view name;
  std::string_view aliases[3];  // lower case, without a plural s
  double factor;
};

struct UnitKind {
  std::span<const Unit> units;
  Unit fallback;  // for values smaller than every unit, and for a unit to scale to that is not of this kind
};

constexpr Unit kMemoryUnits[] = {
    {"B", {"b", "byte"}, 1},
    {"kB", {"kb", "kbyte", "kilobyte"}, 1024.0},
    {"MB", {"mb", "mbyte", "megabyte"}, 1024.0 * 1024},
    {"GB", {"gb", "gbyte", "gigabyte"}, 1024.0 * 1024 * 1024},
    {"TB", {"tb", "tbyte", "terabyte"}, 1024.0 * 1024 * 1024 * 1024},
    {"PB", {"pb", "pbyte", "petabyte"}, 1024.0 * 1024 * 1024 * 1024 * 1024},
};
constexpr Unit kTimeUnits[] = {
    {"ns", {"ns", "nanosecond"}, 1},    {"us", {"us", "microsecond"}, 1e3},
    {"ms", {"ms", "millisecond"}, 1e6}, {"s", {"s", "sec", "second"}, 1e9},
    {"hrs", {"hour", "hr"}, 3600e9},
};
constexpr Unit kGcuUnits[] = {
    {"n*GCU", {"nanogcu"}, 1e-9}, {"u*GCU", {"microgcu"}, 1e-6}, {"m*GCU", {"milligcu"}, 1e-3},
    {"GCU", {"gcu"}, 1},          {"k*GCU", {"kilogcu"}, 1e3},   {"M*GCU", {"megagcu"}, 1e6},
    {"G*GCU", {"gigagcu"}, 1e9},  {"T*GCU", {"teragcu"}, 1e12},  {"P*GCU", {"petagcu"}, 1e15},
};
constexpr UnitKind kKinds[] = {
    {kMemoryUnits, {"B", {}, 1}},
    {kTimeUnits, {"s", {}, 1e9}},
    {kGcuUnits, {"GCU", {}, 1}},
};

const Unit* Find(const UnitKind& kind, std::string_view text) {
  std::string alias(text);
  std::ranges::transform(alias, alias.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  if (alias.size() > 2 && alias.back() == 's') alias.pop_back();
  if (alias.empty()) return nullptr;
  for (const Unit& unit : kind.units)
    if (std::ranges::find(unit.aliases, alias) != std::end(unit.aliases)) return &unit;
  return nullptr;
}

Measurement Convert(const UnitKind& kind, const Unit& from, int64_t value, std::string_view to_unit) {
  const double base = static_cast<double>(value) * from.factor;
  const Unit* to = &kind.fallback;
  if (to_unit == "minimum" || to_unit == "auto") {
    double largest = 0;
    for (const Unit& unit : kind.units) {
      if (unit.factor >= largest && base / unit.factor >= 1.0) {
        largest = unit.factor;
        to = &unit;
      }
    }
  } else if (const Unit* named = Find(kind, to_unit)) {
    to = named;
  }
  return {base / to->factor, to->name};
}

}  // namespace

Measurement Scale(int64_t value, std::string_view from_unit, std::string_view to_unit) {
  if (value < 0 && WrappingAbs(value) > 0) {
    const Measurement positive = Scale(WrappingAbs(value), from_unit, to_unit);
    return {-positive.value, positive.unit};
  }
  for (const UnitKind& kind : kKinds)
    if (const Unit* from = Find(kind, from_unit)) return Convert(kind, *from, value, to_unit);
  constexpr std::string_view kSayNothing[] = {"count", "sample", "unit", "minimum", "auto"};
  const bool plain = std::ranges::find(kSayNothing, to_unit) != std::end(kSayNothing);
  return {static_cast<double>(value), plain ? std::string_view{} : to_unit};
}

std::string ScaledLabel(int64_t value, std::string_view from_unit, std::string_view to_unit) {
  const Measurement scaled = Scale(value, from_unit, to_unit);
  char digits[512];  // the largest double has 309 digits
  std::string text(digits, static_cast<size_t>(std::snprintf(digits, sizeof digits, "%.2f", scaled.value)));
  if (text.ends_with(".00")) text.resize(text.size() - 3);
  if (text == "0" || text == "-0") return "0";
  return text.append(scaled.unit);
}

std::string Percentage(int64_t value, int64_t total) {
  const double ratio =
      total != 0 ? std::fabs(static_cast<double>(value) / static_cast<double>(total)) * 100 : 0.0;
  if (ratio >= 99.95 && ratio <= 100.05) return "  100%";
  char digits[512];
  return {digits, static_cast<size_t>(
                      std::snprintf(digits, sizeof digits, ratio >= 1.0 ? "%5.2f%%" : "%5.2g%%", ratio))};
}

bool SameKindOfUnit(std::string_view one, std::string_view other) {
  return std::ranges::any_of(kKinds,
                             [&](const UnitKind& kind) { return Find(kind, one) && Find(kind, other); });
}

int64_t GoInt64(double value) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  return value >= -kEnd && value < kEnd ? static_cast<int64_t>(value) : std::numeric_limits<int64_t>::min();
}

}  // namespace profagent
