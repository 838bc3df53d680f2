#include "agent/base/process_stat.h"

#include <gtest/gtest.h>

#include <string>

namespace profagent {
namespace {

// A program may be called anything: its process would have another's parent, or would have begun at another time.
TEST(ProcessStat, CountsFieldsFromTheEndOfTheName) {
  for (const char* name : {"7 (app)", "7 (a b)", "7 (a) S 1 2)", "7 ())", "7 (()"}) {
    const std::string stat =
        std::string(name) + " S 42 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 1234 21\n";
    EXPECT_EQ(StatNumber(stat, kStatParent), 42u) << name;
    EXPECT_EQ(StatNumber(stat, kStatStart), 1234u) << name;
  }
}

TEST(ProcessStat, IsZeroWhereThereIsNoSuchField) {
  for (const char* stat : {"", "7 (app", "7 (app)", "7 (app) ", "7 (app) S", "7 (app) S "}) {
    EXPECT_EQ(StatNumber(stat, kStatParent), 0u) << stat;
    EXPECT_EQ(StatNumber(stat, kStatStart), 0u) << stat;
  }
}

}  // namespace
}  // namespace profagent
