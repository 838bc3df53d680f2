#include "agent/ledger/lock_label.h"

#include <gtest/gtest.h>

namespace profagent {
namespace {

TEST(LockLabel, SaysWhereStaticDataIs) {
  for (uint64_t value : {uint64_t{0}, uint64_t{0x4010}, uint64_t{0xfedc'0000'0000'4010}}) {
    Frame place{value};
    auto read = StaticPlace(LabelOfStatic(place).view());
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, place);
  }
}

// Texts come from a file that may be damaged.
TEST(LockLabel, ReadsNothingElse) {
  for (const char* text : {"", "static ", "static 0x", "static 4010", "static 0x40G0",
                           "static 0x12345678123456781", "heap 0x4010", "stack 0x10", "Static 0x10"}) {
    EXPECT_FALSE(StaticPlace(text)) << text;
  }
}

}  // namespace
}  // namespace profagent
