#include "symbolizer/graph/filter.h"

#include <gtest/gtest.h>

#include "symbolizer/profile/merge_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent::graph {
namespace {

PatternPtr Re(std::string_view text) {
  const Result<PatternPtr> pattern = Pattern::Compile("test", text);
  EXPECT_TRUE(pattern);
  return *pattern;
}

// Each stack is a word of one-letter functions, leaf first; "x+y" is x inlined into y.
View Stacks(std::initializer_list<std::string> stacks) {
  ProfileBuilder b;
  b.Type("n", "count");
  const uint64_t app = b.Mapping(0x1000, 0x2000, 0, "/0/1", "");
  for (const std::string& stack : stacks) {
    std::vector<uint64_t> locations;
    for (size_t at = 0; at < stack.size(); ++at) {
      std::vector<ProfileBuilder::FunctionAtLine> lines = {{std::string(1, stack[at]), "", 0}};
      uint64_t address = static_cast<uint64_t>(stack[at]);
      for (; at + 2 < stack.size() && stack[at + 1] == '+'; at += 2) {
        lines.push_back({std::string(1, stack[at + 2]), "", 0});
        address = address << 8 | static_cast<uint64_t>(stack[at + 2]);
      }
      locations.push_back(b.Location(app, address, lines));
    }
    b.Sample(locations, {1}, {{"id", stack, 0, ""}});
  }
  return MakeView(Compact(b.profile()));
}

std::string Shown(const View& view) {
  std::string text;
  for (const Sample& sample : view.samples) {
    if (!text.empty()) text += ' ';
    for (const uint32_t location : sample.locations) {
      const char* plus = "";
      for (const Line& line : view.locations[location].lines) {
        text += plus + view.Text(view.functions[line.function].name);
        plus = "+";
      }
    }
  }
  return text;
}

TEST(FilterByName, FocusAndIgnoreChooseStacks) {
  View view = Stacks({"abm", "cm", "dbm"});
  const NameMatches matches = FilterByName(view, {.focus = Re("b"), .ignore = Re("d")});
  EXPECT_EQ(Shown(view), "abm");
  EXPECT_TRUE(matches.focus && matches.ignore);
}

TEST(FilterByName, HideAndShowChooseFrames) {
  View hidden = Stacks({"a+bcm", "b"});
  EXPECT_TRUE(FilterByName(hidden, {.hide = Re("b")}).hide);
  EXPECT_EQ(Shown(hidden), "acm");
  View shown = Stacks({"a+bcm", "c"});
  EXPECT_TRUE(FilterByName(shown, {.show = Re("a|m")}).show);
  EXPECT_EQ(Shown(shown), "am");
}

TEST(FilterByName, MatchesTheFileOfTheMapping) {
  View view = Stacks({"abm", "cm"});
  EXPECT_TRUE(FilterByName(view, {.focus = Re("/0/1")}).focus);
  EXPECT_EQ(view.samples.size(), 2u);
  FilterByName(view, {.hide = Re("/0/1")});
  EXPECT_EQ(view.samples.size(), 0u);
}

// pprof: without any filter too.
TEST(FilterByName, DropsSamplesWithoutLocations) {
  View view = Stacks({"", "a"});
  FilterByName(view, {});
  EXPECT_EQ(Shown(view), "a");
}

TEST(ShowFrom, CutsAboveTheOutermostMatch) {
  View view = Stacks({"abcb", "dabd", "dd"});
  EXPECT_TRUE(ShowFrom(view, *Re("^b$")));
  EXPECT_EQ(Shown(view), "abcb dab");
  EXPECT_FALSE(ShowFrom(view, *Re("z")));
  EXPECT_EQ(Shown(view), "");
}

TEST(ShowFrom, CutsInsideOfInlinedFrames) {
  View view = Stacks({"xa+b+cm"});
  ShowFrom(view, *Re("b"));
  EXPECT_EQ(Shown(view), "xa+b");
}

TEST(PruneFrom, CutsBelowTheInnermostMatch) {
  View view = Stacks({"abcbd", "aa"});
  PruneFrom(view, *Re("b"));
  EXPECT_EQ(Shown(view), "bcbd aa");
}

TEST(DropUninteresting, CutsTheMatchAndWhatIsBelow) {
  View view = Stacks({"abm", "bcm", "bb", "mbab"});
  view.drop_frames = view.strings->Intern("b");
  DropUninteresting(view);
  EXPECT_EQ(Shown(view), "m cm bb ab")
      << "what lies above the user's own frames stays, or whole stacks would go";
}

TEST(DropUninteresting, SparesWhatIsToBeKeptAndBadExpressions) {
  View view = Stacks({"abm"});
  view.drop_frames = view.strings->Intern("a|b");
  view.keep_frames = view.strings->Intern("b");
  DropUninteresting(view);
  EXPECT_EQ(Shown(view), "bm");
  view.drop_frames = view.strings->Intern("(b");
  DropUninteresting(view);
  EXPECT_EQ(Shown(view), "bm");
}

TEST(FilterLabels, ChoosesByKey) {
  View view = Stacks({"a"});
  const LabelMatches matches = FilterLabels(view, Re("i"), Re("nothing"));
  EXPECT_TRUE(matches.show);
  EXPECT_FALSE(matches.hide);
  EXPECT_EQ(view.samples[0].text_labels.size(), 1u);
  FilterLabels(view, nullptr, Re("id"));
  EXPECT_EQ(view.samples[0].text_labels.size(), 0u);
}

TEST(Pattern, NamesTheOptionOfABadExpression) {
  const Result<PatternPtr> bad = Pattern::Compile("focus", "(a");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().text.view(), "parsing focus regexp: missing ): (a");
}

// std::regex would take minutes, or the stack.
TEST(Pattern, TakesTimeLinearInTheText) {
  EXPECT_FALSE(Re("^(a+)+$")->Matches(std::string(100'000, 'a') + "b"));
}

// A file name in Latin-1 would be in no stack that `-show=/home/.*/app` leaves.
TEST(Pattern, TakesBytesThatAreNoTextForCharacters) {
  const std::string latin1 = "/home/m\xfcller/app";
  EXPECT_TRUE(Re("/home/.*/app")->Matches(latin1));
  EXPECT_TRUE(Re("m[^x]ller")->Matches(latin1));
  EXPECT_FALSE(Re("m..ller")->Matches(latin1));
  EXPECT_TRUE(Re("^.$")->Matches("\xc3\xbc"));
  EXPECT_TRUE(Re("^...$")->Matches("\xe2\x82x"));
}

}  // namespace
}  // namespace profagent::graph
