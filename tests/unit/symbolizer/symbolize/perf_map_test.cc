// Lines of /tmp/perf-PID.map, and which files are believed.
#include "symbolizer/symbolize/perf_map.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/symbolizer/symbolize/symbolize_fixture.h"

namespace profagent {
namespace {

class PerfMapTest : public ::testing::Test {
 protected:
  using Names = std::vector<std::string>;

  Names Read(const std::string& text, std::vector<uint64_t> addresses) {
    directory_.Write("a.map", text);
    Result<Names> names = ReadPerfMap(directory_ / "a.map", addresses, {});
    EXPECT_TRUE(names) << names.error().text.view();
    return names ? *names : Names();
  }
  std::string Problem(const std::string& name, PerfMapRules rules = {}) {
    Result<Names> names = ReadPerfMap(directory_ / name, {}, rules);
    return names ? "" : std::string(names.error().text.view());
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(PerfMapTest, NamesWhatALineCovers) {
  EXPECT_EQ(Read("1000 10 first\n1010 20 JS:*fib /a b/c.js:1:13\n",
                 {0xfff, 0x1000, 0x100f, 0x1010, 0x102f, 0x1030}),
            (Names{"", "first", "first", "JS:*fib /a b/c.js:1:13", "JS:*fib /a b/c.js:1:13", ""}));
}

TEST_F(PerfMapTest, ReadsNumbersAsJavaWritesThem) {
  EXPECT_EQ(Read("0x00007f1234567000 0x0000000000000040 Interpreter\r\nFFFFFFFFFFFFFFF0 f end",
                 {0x7f123456703f, 0xfffffffffffffffe, 0xffffffffffffffff}),
            (Names{"Interpreter", "end", ""}));
}

TEST_F(PerfMapTest, BelievesTheLastOfSeveralLines) {
  EXPECT_EQ(Read("1000 100 old\n1010 10 new\n", {0x1000, 0x1010, 0x101f, 0x1020}),
            (Names{"old", "new", "new", "old"}));
}

TEST_F(PerfMapTest, PassesOverWhatIsNoLine) {
  std::string text =
      "\n# comment\nzz 10 a\n1000\n1000 10\n1000 10 \n10000000000000000 10 too_large\n-1000 10 b\n1000 0 "
      "empty\n";
  EXPECT_EQ(Read(text, {0x1000}), Names{""});
  EXPECT_EQ(Read(text + "1000 10 good\n", {0x1000}), Names{"good"});
}

TEST_F(PerfMapTest, CutsLinesThatAreTooLong) {
  // What stands behind the cut looks like a line of its own.
  std::string junk(65535 - std::string_view("1000 10 ").size(), 'x');
  Names names = Read("1000 10 " + junk + "2000 10 rest\n3000 10 next\n", {0x1000, 0x2000, 0x3000});
  EXPECT_EQ(names, (Names{junk, "", "next"}));
}

TEST_F(PerfMapTest, SaysWhichFilesItDoesNotBelieve) {
  Result<Names> absent = ReadPerfMap(directory_ / "absent", {}, {});
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ENOENT);
  ASSERT_EQ(mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_NE(Problem("fifo").find("fifo: not a regular file"), std::string::npos);
  directory_.Write("a.map", "");
  ASSERT_EQ(symlink("a.map", (directory_ / "link").c_str()), 0);
  EXPECT_EQ(Problem("link"), "");
  EXPECT_NE(Problem("link", {.only_trusted = true}), "");
  struct stat status;
  ASSERT_EQ(stat((directory_ / "a.map").c_str(), &status), 0);
  EXPECT_EQ(Problem("a.map", {.only_trusted = true, .not_before = status.st_mtime}), "");
  EXPECT_NE(Problem("a.map", {.not_before = status.st_mtime + 1}).find("older than the process"),
            std::string::npos);
  if (chown((directory_ / "a.map").c_str(), 65534, 65534) != 0) return;  // not root
  EXPECT_EQ(Problem("a.map"), "");
  EXPECT_NE(Problem("a.map", {.only_trusted = true}).find("neither root's nor yours"), std::string::npos);
}

}  // namespace
}  // namespace profagent
