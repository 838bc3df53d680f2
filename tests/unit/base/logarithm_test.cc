#include "agent/base/logarithm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace profagent {
namespace {

// Heap values are computed with it, and they agree with Go's to the digit only if this does.
TEST(Logarithm, ExpIsRightToTheLastPlace) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponent(-40, 9);
  for (int i = 0; i < 1'000'000; ++i) {
    double x = std::exp2(exponent(random));
    double expected = static_cast<double>(std::exp(-static_cast<long double>(x)));
    ASSERT_LE(std::abs(ExpOfNegative(x) - expected), std::nextafter(expected, 2) - expected) << x;
  }
  EXPECT_EQ(ExpOfNegative(0), 1);
  EXPECT_EQ(ExpOfNegative(1e9), 0);
}

TEST(Logarithm, LnIsGoodToTwelveDigits) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 1'000'000; ++i) {
    double x = static_cast<double>((random() >> 11) + 1) * 0x1p-53;
    ASSERT_NEAR(NaturalLog(x), std::log(x), 1e-12 * (1 + std::abs(std::log(x)))) << x;
  }
  EXPECT_NEAR(NaturalLog(1e300), std::log(1e300), 1e-9);
}

}  // namespace
}  // namespace profagent
