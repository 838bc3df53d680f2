#include "agent/base/text.h"

#include <gtest/gtest.h>

#include <climits>
#include <string>

namespace profagent {
namespace {

TEST(Text, PutsPartsOfAllKindsTogether) {
  FixedText<200> text;
  text.Add("a", 'b', std::string_view("c"), 0, ' ', -17, ' ', 42u, ' ', Hex{0x1f}, ' ', Hex{0}, ' ', true);
  EXPECT_EQ(text.view(), "abc0 -17 42 0x1f 0x0 1");
  EXPECT_FALSE(text.truncated());
}

TEST(Text, WritesTheEndsOfEveryRange) {
  FixedText<200> text;
  text.Add(INT64_MIN, ' ', INT64_MAX, ' ', UINT64_MAX, ' ', Hex{UINT64_MAX}, ' ', INT8_MIN + 0, ' ',
           uint8_t{255} + 0);
  EXPECT_EQ(text.view(),
            "-9223372036854775808 9223372036854775807 18446744073709551615 0xffffffffffffffff -128 255");
}

// A path of 4 KiB in a line of 1 KiB must not become a write past its end.
TEST(Text, CutsWhatDoesNotFitAndSaysSo) {
  FixedText<8> text;
  text.Add("1234567");
  EXPECT_EQ(text.view(), "1234567");
  EXPECT_FALSE(text.truncated());
  text.Add("8");
  EXPECT_EQ(text.view(), "1234567");
  EXPECT_TRUE(text.truncated());
  EXPECT_EQ(std::string(text.c_str()), "1234567");

  FixedText<4> number;
  number.Add(123456);
  EXPECT_EQ(number.view(), "123");
  EXPECT_TRUE(number.truncated());
}

TEST(Text, EndsWithANullByteWhateverTheRoom) {
  for (size_t capacity = 0; capacity < 6; ++capacity) {
    char memory[8];
    std::memset(memory, 'x', sizeof memory);
    TextWriter writer(memory, capacity);
    writer.Add("abc").Add("def");
    if (capacity > 0) {
      EXPECT_EQ(memory[writer.size()], '\0');
      EXPECT_EQ(writer.size(), capacity - 1);
    } else {
      EXPECT_EQ(writer.size(), 0u);
    }
    EXPECT_EQ(memory[capacity], 'x');
    EXPECT_TRUE(writer.truncated());
  }
}

TEST(Text, TakesNoTextForAnEmptyOne) {
  FixedText<8> text;
  text.Add(static_cast<const char*>(nullptr), std::string_view());
  EXPECT_TRUE(text.empty());
}

TEST(Text, GoesOnWhereItStopped) {
  FixedText<64> text;
  text.Add("one").Add(" two");
  FixedText<64> copy = text;
  copy.Add(" three");
  EXPECT_EQ(text.view(), "one two");
  EXPECT_EQ(copy.view(), "one two three");
}

}  // namespace
}  // namespace profagent
