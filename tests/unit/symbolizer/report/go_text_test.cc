#include "symbolizer/report/go_text.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

namespace profagent {
namespace {

std::string Padded(std::string_view part, size_t width) {
  std::string text;
  AppendPadded(text, part, width);
  return text;
}

TEST(GoText, PadsByCharactersNotBytes) {
  EXPECT_EQ(Padded("abc", 5), "  abc");
  EXPECT_EQ(Padded("schlüssel", 10), " schlüssel");
  EXPECT_EQ(Padded("\xff\xfe", 4), "  \xff\xfe");         // Go counts a byte that is no character as one
  EXPECT_EQ(Padded("\xed\xa0\x80", 4), " \xed\xa0\x80");  // a surrogate is none
  EXPECT_EQ(Padded("too long", 3), "too long");
  EXPECT_EQ(FirstCharacters("1.5µs and more", 5), "1.5µs");
  EXPECT_EQ(FirstCharacters("ab", 4), "ab");
}

TEST(GoText, WritesDurationsAsGoDoes) {
  EXPECT_EQ(DurationText(0), "0s");
  EXPECT_EQ(DurationText(250), "250ns");
  EXPECT_EQ(DurationText(1500), "1.5µs");
  EXPECT_EQ(DurationText(250'001), "250.001µs");
  EXPECT_EQ(DurationText(3'120'000'000), "3.12s");
  EXPECT_EQ(DurationText(90'500'000'000), "1m30.5s");
  EXPECT_EQ(DurationText(3'600'000'000'000), "1h0m0s");
  EXPECT_EQ(DurationText(-1'000'000), "-1ms");
  EXPECT_EQ(DurationText(std::numeric_limits<int64_t>::min()), "-2562047h47m16.854775808s");
}

class GoTime : public testing::Test {
 protected:
  void SetZone(const char* zone) { setenv("TZ", zone, 1); }
  void TearDown() override { SetZone("UTC"); }
};

TEST_F(GoTime, WritesTimesAsGoDoes) {
  SetZone("UTC");
  EXPECT_EQ(HeaderTime(1'763'871'129'250'000'000), "Nov 23, 2025 at 4:12am (UTC)");
  EXPECT_EQ(RawTime(1'763'871'129'250'000'000), "2025-11-23 04:12:09.25 +0000 UTC");
  EXPECT_EQ(RawTime(-1), "1969-12-31 23:59:59.999999999 +0000 UTC");
  EXPECT_EQ(HeaderTime(12 * 3600 * int64_t{1'000'000'000}), "Jan 1, 1970 at 12:00pm (UTC)");
}

// The C library would take these for rules or for a zone of that name; Go knows files only.
TEST_F(GoTime, TakesAnUnknownZoneForUtc) {
  for (const char* zone : {"No/Such_Zone", "XYZ-3", "<+03>-3", "", ":"}) {
    SetZone(zone);
    EXPECT_EQ(RawTime(0), "1970-01-01 00:00:00 +0000 UTC") << zone;
  }
}

}  // namespace
}  // namespace profagent
