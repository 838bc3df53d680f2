#include "agent/encode/string_table.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/base/utf8.h"

namespace profagent {
namespace {

TEST(StringTable, NumbersEachTextOnceByFirstUse) {
  Arena arena;
  StringTable table(arena);
  EXPECT_EQ(table.Add(""), 0u);
  EXPECT_EQ(table.Add("one"), 1u);
  EXPECT_EQ(table.AddCopy("two"), 2u);
  EXPECT_EQ(table.Add("two"), 2u);
  EXPECT_EQ(table.AddCopy("one"), 1u);
  EXPECT_EQ(table.size(), 3u);
  EXPECT_EQ(table[0], "");
  EXPECT_EQ(table[2], "two");
}

TEST(StringTable, HoldsManyTextsApart) {
  Arena arena;
  StringTable table(arena);
  for (uint32_t i = 1; i <= 50000; ++i) EXPECT_EQ(table.AddCopy("text" + std::to_string(i)), i);
  for (uint32_t i = 1; i <= 50000; ++i) EXPECT_EQ(table.AddCopy("text" + std::to_string(i)), i);
  EXPECT_FALSE(table.out_of_memory());
}

TEST(StringTable, KeepsWhatItHasWhenMemoryGivesOut) {
  Arena arena(100 << 10);
  StringTable table(arena);
  uint32_t held = 0;
  for (uint32_t i = 1; i <= 50000 && !table.out_of_memory(); ++i) {
    if (table.AddCopy("text" + std::to_string(i)) == i) held = i;
  }
  EXPECT_TRUE(table.out_of_memory());
  EXPECT_GT(held, 500u);
  EXPECT_EQ(table.AddCopy("text" + std::to_string(held)), held);
  EXPECT_EQ(table.Add("text1"), 1u);
}

// Wherever in eight bytes it stands, and whatever follows.
TEST(ValidUtf8Prefix, LooksAtEveryByteOfALongText) {
  for (size_t size = 1; size <= 40; ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::string text(size, 'a');
      EXPECT_EQ(ValidUtf8Prefix(text), size);
      text[at] = '\x7f';
      EXPECT_EQ(ValidUtf8Prefix(text), size);
      for (char bad : {'\x80', '\xff'}) {
        text[at] = bad;
        EXPECT_EQ(ValidUtf8Prefix(text), at) << size;
      }
      text[at] = '\xe2';  // cut by ASCII, or by the end
      EXPECT_EQ(ValidUtf8Prefix(text), at) << size;
      text.replace(at, 1, "\xe2\x82\xac\xc3\xbc");
      EXPECT_EQ(ValidUtf8Prefix(text), text.size());
      Arena arena;
      StringTable table(arena);
      EXPECT_EQ(table[table.Add(text)], text);
      text[at + 4] = 'b';
      EXPECT_EQ(ValidUtf8Prefix(text), at + 3);
      text[at + 3] = '?';
      std::string cut = text;
      cut[at + 3] = '\xc3';
      EXPECT_EQ(table[table.Add(cut)], text);
      EXPECT_EQ(table[table.AddCopy(cut)], text);
    }
  }
}

}  // namespace
}  // namespace profagent
