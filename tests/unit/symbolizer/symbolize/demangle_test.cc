#include "symbolizer/symbolize/demangle.h"

#include <gtest/gtest.h>

namespace profagent {
namespace {

TEST(Demangle, WritesCxxNamesAsTheSourceDoes) {
  EXPECT_EQ(Demangle("_ZN6sample5outerEiPKc"), "sample::outer(int, char const*)");
  EXPECT_EQ(Demangle("_ZNSt6vectorIiSaIiEE9push_backEOi"),
            "std::vector<int, std::allocator<int> >::push_back(int&&)");
  EXPECT_EQ(Demangle("_ZZ4mainENKUlvE_clEv"), "main::{lambda()#1}::operator()() const");
}

// A clone is another piece of code than the function it was made of, and often the hot or the cold half.
TEST(Demangle, KeepsTheMarkOfAClone) {
  EXPECT_EQ(Demangle("_Z4workv.cold"), "work() [clone .cold]");
  EXPECT_EQ(Demangle("_Z4workv.constprop.0"), "work() [clone .constprop.0]");
}

// ThinLTO renames local functions; the number means nothing to anybody.
TEST(Demangle, DropsTheNumberThatLlvmAppends) {
  EXPECT_EQ(Demangle("_Z4workv.llvm.1234567890"), "work()");
  EXPECT_EQ(Demangle("_Z4workv.llvm.x"), "work() [clone .llvm] [clone .x]");
}

TEST(Demangle, KnowsBothManglingsOfRust) {
  EXPECT_EQ(Demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
  EXPECT_EQ(Demangle("_RNvNtCs1234_7mycrate3foo3bar"), "mycrate::foo::bar");
}

// `read` and `f` are also the manglings of types, which c++filt -t would turn into nonsense.
TEST(Demangle, LeavesOtherNamesAlone) {
  for (const char* name :
       {"read", "f", "main", "_start", "__libc_malloc", "app+0x1f", "", "_Z", "_ZNotMangled"}) {
    EXPECT_EQ(Demangle(name), name);
  }
}

// A name of 100 KB would otherwise take the demangler minutes and gigabytes.
TEST(Demangle, GivesUpOnAbsurdlyLongNames) {
  std::string name = "_Z1f";
  for (int i = 0; i < 50000; ++i) name += "PK";
  name += "i";
  EXPECT_EQ(Demangle(name), name);
}

// Each pair<> is of two of the one before: 40 of them are 400 characters, and terabytes of text.
TEST(Demangle, GivesUpOnNamesThatStandForTooMuchText) {
  static constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const auto nested = [](size_t depth) {
    std::string name = "_Z1fSt4pairIiiE";
    for (const char digit : kDigits.substr(0, depth))
      name += std::string("S_IS") + digit + "_S" + digit + "_E";
    return name;
  };
  EXPECT_EQ(Demangle(nested(1)),
            "f(std::pair<int, int>, std::pair<std::pair<int, int>, std::pair<int, int> >)");
  EXPECT_EQ(Demangle(nested(kDigits.size())), nested(kDigits.size()));
}

}  // namespace
}  // namespace profagent
