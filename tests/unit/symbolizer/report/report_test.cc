// What the golden test cannot show: errors, warnings, and what others in this program rely on. The text of the reports
// is checked there, against go tool pprof.
#include "symbolizer/report/report.h"

#include <gtest/gtest.h>

#include "tests/golden/golden_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

ProfileBuilder Small() {
  ProfileBuilder b;
  b.Type("samples", "count").Type("cpu", "nanoseconds");
  b.Sample({b.Location(0, 1, {{"_ZN3app1fEv", "", 0}}), b.Location(0, 2, {{"main", "", 0}})}, {3, 30'000'000},
           {{"latency", "", 5, "ms"}, {"latency", "", 6, "s"}});
  return b;
}

ReportText Make(const ReportOptions& options) {
  const Result<ReportText> report = MakeReport(Small().profile(), options);
  EXPECT_TRUE(report) << report.error().text.c_str();
  return report ? *report : ReportText{};
}

std::string ErrorOf(const ReportOptions& options) {
  const Result<ReportText> report = MakeReport(Small().profile(), options);
  return report ? "no error" : std::string(report.error().text.view());
}

TEST(MakeReport, TakesAProfileAsItWasRead) {
  EXPECT_EQ(Make({.compact_labels = true}).text,
            "Showing nodes accounting for 30ms, 100% of 30ms total\n"
            "      flat  flat%   sum%        cum   cum%\n"
            "      30ms   100%   100%       30ms   100%  app::f\n"
            "         0     0%   100%       30ms   100%  main\n");
}

TEST(MakeReport, WarnsAboutFiltersThatMatchNothing) {
  const std::vector<std::string> warnings =
      Make({.focus = "no such", .ignore = "none", .tag_focus = "latency=5ms"}).warnings;
  EXPECT_EQ(warnings,
            (std::vector<std::string>{
                "For tag latency used unit ms, also encountered unit(s) s",
                "tagfocus:Interpreted '5ms' as range, not regexp", "Focus expression matched no samples",
                "Ignore expression matched no samples", "TagFocus expression matched no samples"}));
}

// Of a profile that has neither a program nor a name of its values. pprof ends the head with a newline, also where it is empty.
TEST(MakeReport, BeginsTracesWithALineThoughThereIsNoHead) {
  ProfileBuilder b;
  b.Type("", "count");
  const Result<ReportText> report = MakeReport(b.profile(), {.kind = ReportKind::kTraces});
  ASSERT_TRUE(report) << report.error().text.c_str();
  EXPECT_EQ(report->text, "\n-----------+-------------------------------------------------------\n");
}

TEST(MakeReport, SaysWhatItCannotDo) {
  EXPECT_EQ(ErrorOf({.sample_index = "inuse"}), "sample_index \"inuse\" must be one of: [samples cpu]");
  EXPECT_EQ(ErrorOf({.sample_index = "2"}), "sample_index 2 is outside the range [0..1]");
  EXPECT_EQ(ErrorOf({.sample_index = "-1"}), "sample_index -1 is outside the range [0..1]");
  EXPECT_EQ(ErrorOf({.divide_by = 0}), "zero divisor specified");
  EXPECT_EQ(ErrorOf({.hide = "["}), "parsing hide regexp: missing ]: [");
  EXPECT_EQ(ErrorOf({.tag_focus = "99999999999999999999"}),
            "number too large in tag filter: 99999999999999999999");
  ProfileBuilder empty;
  EXPECT_FALSE(MakeReport(empty.profile(), {}));
}

// A report of one million stacks must not take minutes: `profagent run` prints one at its end.
TEST(MakeReport, TakesLargeProfilesInStride) {
  ProfileBuilder b;
  b.Type("n", "count");
  std::vector<uint64_t> locations;
  for (uint64_t i = 0; i < 3000; ++i)
    locations.push_back(b.Location(0, i, {{"f" + std::to_string(i), "", 0}}));
  uint64_t state = 1;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<uint64_t> stack;
    for (int depth = 0; depth < 30; ++depth) {
      state = state * 6364136223846793005 + 1442695040888963407;
      stack.push_back(locations[(state >> 33) % locations.size()]);
    }
    b.Sample(stack, {1});
  }
  const Result<ReportText> report = MakeReport(b.profile(), {.node_count = 10});
  ASSERT_TRUE(report);
  EXPECT_NE(report->text.find("Showing top 10 nodes out of "), std::string::npos);
}

}  // namespace
}  // namespace profagent
