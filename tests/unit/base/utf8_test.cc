#include "agent/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace profagent {
namespace {

TEST(ValidUtf8Prefix, TakesWhatRfc3629Takes) {
  for (std::string good :
       {"", "ascii", "\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xf4\x8f\xbf\xbf", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}) {
    EXPECT_EQ(ValidUtf8Prefix(good), good.size()) << good;
  }
}

TEST(ValidUtf8Prefix, StopsAtWhatRfc3629Forbids) {
  for (std::string bad :
       {"\x80", "\xff", "\xfe", "\xc0\xaf", "\xc1\xbf",                     // alone; two bytes for one
        "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",                                 // longer than need be
        "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",             // surrogates; above U+10FFFF
        "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3\xc3", "\xe2\x82\x28"}) {  // cut
    EXPECT_EQ(ValidUtf8Prefix(bad), 0u);
    EXPECT_EQ(ValidUtf8Prefix("ab" + bad + "cd"), 2u);
  }
}

}  // namespace
}  // namespace profagent
