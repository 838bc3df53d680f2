#include "agent/base/logarithm.h"

#include <cstring>

namespace profagent {
namespace {

constexpr long double kLn2 = 0.693147180559945309417232121458176568L;

}  // namespace

// -x = r - k ln 2 with |r| <= ln 2 / 2; the series of e^r in extended precision, then k halvings.
double ExpOfNegative(double x) {
  if (!(x > 0)) return 1;
  if (x > 745) return 0;
  auto k =
      static_cast<int>(x / static_cast<double>(kLn2) + 0.5);  // NOLINT(bugprone-incorrect-roundings): x > 0
  long double r = k * kLn2 - static_cast<long double>(x);
  long double term = 1, sum = 1;
  for (int n = 1; n <= 20; ++n) {
    term *= r / n;
    sum += term;
  }
  for (; k >= 32; k -= 32) sum /= 4294967296.0L;
  return static_cast<double>(sum / static_cast<long double>(uint64_t{1} << k));
}

// x = m 2^e with m in [sqrt(1/2), sqrt 2); ln m = 2 artanh((m - 1) / (m + 1)).
double NaturalLog(double x) {
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  int exponent = static_cast<int>(bits >> 52 & 0x7ff) - 1023;
  bits = (bits & 0xfffffffffffff) | uint64_t{1023} << 52;
  double m = 0;
  std::memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m /= 2;
    ++exponent;
  }
  double s = (m - 1) / (m + 1);
  double square = s * s;
  double series = 0;
  for (int n = 21; n >= 1; n -= 2) series = series * square + 1.0 / n;
  return exponent * static_cast<double>(kLn2) + 2 * s * series;
}

}  // namespace profagent
