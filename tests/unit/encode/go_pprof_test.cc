// Our profiles in the reader that our users have: `go tool pprof`, with no binary at hand. Skipped where it is not
// installed.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/unit/encode/test_ledger.h"

namespace profagent {
namespace {

class GoPprofTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("go tool -n pprof >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "`go tool pprof` is not installed (package golang-go)";
    }
    char path[] = "/tmp/go_pprof_test.XXXXXX";
    int fd = mkstemp(path);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = path;
  }
  void TearDown() override {
    if (!path_.empty()) unlink(path_.c_str());
  }

  void Write(const std::string& bytes) {
    FILE* file = fopen(path_.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    EXPECT_EQ(fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    fclose(file);
  }
  // Standard output and error together: a warning is a failure as well. PPROF_BINARY_PATH leads nowhere.
  std::string Pprof(const std::string& options) {
    std::string command =
        "HOME=/nonexistent PPROF_BINARY_PATH=/nonexistent GOFLAGS=-mod=mod GOCACHE=off go tool pprof " +
        options + " " + path_ + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    char part[4096];
    for (size_t size; (size = fread(part, 1, sizeof part, pipe)) > 0;) output.append(part, size);
    EXPECT_EQ(pclose(pipe), 0) << output;
    return output;
  }

  std::string path_;
};

constexpr std::string_view kNames[] = {
    "_ZN3app3BoxIiE4workEv",
    "main",
    "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
    "_RNvCskwGfYPst2Cb_3foo16example_function",
    "compute.part.0",
    "_ZN3app4slowEv.cold",
    "memcpy@plt",
    "_ZN3appL6helperEi.constprop.0.isra.0",
};

void Names(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  for (size_t i = 0; i < names.size(); ++i) {
    size_t page = request.addresses[i] >> 12;
    if (page >= 1 && page <= std::size(kNames)) names[i].name = kNames[page - 1];
  }
}

TEST_F(GoPprofTest, ShowsDemangledNamesWithNoBinaryAtHand) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  for (uint64_t i = 1; i <= std::size(kNames); ++i) ledger.Add({In(1, i << 12), In(1, 0x2000)}, "worker", i);
  ledger.Add({In(2, 0x50), In(1, 0x2000)}, "", 20);
  ledger.Add({Frame::Of(ModuleId::kNone, 0x7f0012345678), MakeSynthetic(SyntheticFrame::kTruncated)}, "", 30);
  Write(EncodeGzip(ledger.view(), RequestEndingAt(8'000'000'000), Names));

  // Comments that start with '#' are not part of it; the local time zone is not under test.
  std::string top = Pprof("-top");
  EXPECT_EQ(top.substr(0, top.find("Time:")), "File: app\nBuild ID: abcdef\nType: cpu\n");
  EXPECT_EQ(top.substr(top.find("Duration:")),
            R"(Duration: 3s, Total samples = 860ms (28.67%)
Showing nodes accounting for 860ms, 100% of 860ms total
      flat  flat%   sum%        cum   cum%
     300ms 34.88% 34.88%      300ms 34.88%  0x7f0012345678
     200ms 23.26% 58.14%      200ms 23.26%  libfoo.so+0x50
      80ms  9.30% 67.44%       80ms  9.30%  app::helper
      70ms  8.14% 75.58%       70ms  8.14%  memcpy@plt
      60ms  6.98% 82.56%       60ms  6.98%  app::slow
      50ms  5.81% 88.37%       50ms  5.81%  compute.part.0
      40ms  4.65% 93.02%       40ms  4.65%  foo::example_function
      30ms  3.49% 96.51%       30ms  3.49%  core::fmt::Write::write_fmt
      20ms  2.33% 98.84%      560ms 65.12%  main
      10ms  1.16%   100%       10ms  1.16%  app::Box::work
         0     0%   100%      300ms 34.88%  [truncated]
)");

  std::string traces = Pprof("-traces");
  EXPECT_NE(traces.find(R"(
     300ms   0x7f0012345678
             [truncated]
-----------+-------------------------------------------------------
     200ms   libfoo.so+0x50
             main
-----------+-------------------------------------------------------
    thread:  worker
      80ms   app::helper
             main
)"),
            std::string::npos)
      << traces;

  std::string raw = Pprof("-raw");
  EXPECT_NE(raw.find(R"(PeriodType: cpu nanoseconds
Period: 10000000
)"),
            std::string::npos);
  EXPECT_NE(raw.find("     2: 0x0 [truncated] :0 s=0\n"), std::string::npos) << raw;
  EXPECT_NE(raw.find("     5: 0x555500008000 M=1 app::helper :0 s=0(_ZN3appL6helperEi.constprop.0.isra.0)\n"),
            std::string::npos)
      << raw;
  EXPECT_NE(raw.find(R"(Mappings
1: 0x555500001000/0x555500009000/0x1000 /usr/bin/app abcdef [FN]
2: 0x7f0000001000/0x7f0000009000/0x1000 /home/user/libfoo.so 0102 [FN]
)"),
            std::string::npos)
      << raw;
}

// What is missing stands at the head of every report.
TEST_F(GoPprofTest, ShowsLossesAtTheHeadOfAReport) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({In(1, 0x1000)}, "", 1);
  ledger.ledger().Count(Loss::kLedgerFull, 12);
  Write(EncodeGzip(ledger.view(), RequestEndingAt(8'000'000'000)));
  EXPECT_NE(Pprof("-top").find("samples_ledger_full=12 (samples dropped: PROFAGENT_MEMORY is used up)\n"),
            std::string::npos);
  EXPECT_NE(Pprof("-comments").find("# command: app --fast input\n"), std::string::npos);
}

TEST_F(GoPprofTest, ReadsAProfileWithoutSamples) {
  TestLedger ledger;
  Write(EncodeGzip(ledger.view(), RequestEndingAt(8'000'000'000)));
  EXPECT_NE(Pprof("-top").find("Showing nodes accounting for 0, 0% of 0 total"), std::string::npos);
}

}  // namespace
}  // namespace profagent
