#include "symbolizer/profile/measurement.h"

#include <gtest/gtest.h>

#include <limits>

namespace profagent {
namespace {

constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();

// The unit of a report is chosen by these: one wrong digit and no line of it equals pprof's.
TEST(Measurement, ScalesToTheLargestUnitThatLeavesOne) {
  EXPECT_EQ(ScaledLabel(0, "nanoseconds", "auto"), "0");
  EXPECT_EQ(ScaledLabel(1, "nanoseconds", "auto"), "1ns");
  EXPECT_EQ(ScaledLabel(1500, "nanoseconds", "auto"), "1.50us");
  EXPECT_EQ(ScaledLabel(10'000'000, "nanoseconds", "minimum"), "10ms");
  EXPECT_EQ(ScaledLabel(3'600'000'000'000, "nanoseconds", "auto"), "1hrs");
  EXPECT_EQ(ScaledLabel(1023, "bytes", "auto"), "1023B");
  EXPECT_EQ(ScaledLabel(1536, "bytes", "auto"), "1.50kB");
  EXPECT_EQ(ScaledLabel(-2048, "bytes", "auto"), "-2kB");
  EXPECT_EQ(ScaledLabel(5, "milligcu", "auto"), "5m*GCU");
}

TEST(Measurement, ConvertsToTheUnitAskedFor) {
  EXPECT_EQ(ScaledLabel(1'500'000, "nanoseconds", "ms"), "1.50ms");
  EXPECT_EQ(ScaledLabel(1, "kilobytes", "bytes"), "1024B");
  EXPECT_EQ(ScaledLabel(4, "nanoseconds", "s"), "0");
  EXPECT_EQ(ScaledLabel(2'000'000'000, "nanoseconds", "bytes"), "2s");  // no such time: seconds
}

TEST(Measurement, PrintsUnknownUnitsAsTheyAreAndCountsWithoutAny) {
  EXPECT_EQ(ScaledLabel(3, "count", "count"), "3");
  EXPECT_EQ(ScaledLabel(3, "count", "minimum"), "3");
  EXPECT_EQ(ScaledLabel(3, "widgets", "widgets"), "3widgets");
  EXPECT_EQ(ScaledLabel(3, "", ""), "3");
}

TEST(Measurement, KnowsUnitsByAnyCaseAndPlural) {
  EXPECT_TRUE(SameKindOfUnit("Seconds", "ns"));
  EXPECT_TRUE(SameKindOfUnit("KB", "bytes"));
  EXPECT_FALSE(SameKindOfUnit("seconds", "bytes"));
  EXPECT_FALSE(SameKindOfUnit("", ""));
  EXPECT_FALSE(SameKindOfUnit("count", "count"));
}

TEST(Measurement, PercentagesAreSixWide) {
  EXPECT_EQ(Percentage(0, 0), "    0%");
  EXPECT_EQ(Percentage(1, 1), "  100%");
  EXPECT_EQ(Percentage(9996, 10000), "  100%");
  EXPECT_EQ(Percentage(9994, 10000), "99.94%");
  EXPECT_EQ(Percentage(1, 1000), "  0.1%");
  EXPECT_EQ(Percentage(99, 10000), " 0.99%");
  EXPECT_EQ(Percentage(9999, 1'000'000), "    1%");
  EXPECT_EQ(Percentage(1, 10'000'000), "1e-05%");
  EXPECT_EQ(Percentage(-1, 2), "50.00%");
  EXPECT_EQ(Percentage(7, 2), "350.00%");
}

// A profile may hold any 64 bits. In C++ these overflows are undefined; in Go, and so here, they are not.
TEST(Measurement, SurvivesTheEndsOfTheRange) {
  EXPECT_EQ(ScaledLabel(kLeast, "things", "things"), "-9223372036854775808things");
  EXPECT_EQ(ScaledLabel(kLeast, "bytes", "auto"),
            "-9223372036854775808B");  // as pprof: its absolute value is negative
  EXPECT_EQ(ScaledLabel(kMost, "bytes", "auto"), "8192PB");
  EXPECT_EQ(WrappingAbs(kLeast), kLeast);
  EXPECT_EQ(WrappingAdd(kMost, 1), kLeast);
  EXPECT_EQ(WrappingDivide(kLeast, -1), kLeast);
  EXPECT_EQ(GoInt64(1e300), kLeast);
  EXPECT_EQ(GoInt64(-1e300), kLeast);
  EXPECT_EQ(GoInt64(std::numeric_limits<double>::quiet_NaN()), kLeast);
  EXPECT_EQ(GoInt64(-9223372036854775808.0), kLeast);
  EXPECT_EQ(GoInt64(-1.9), -1);
}

}  // namespace
}  // namespace profagent
