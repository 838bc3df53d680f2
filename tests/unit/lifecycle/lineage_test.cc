#include "agent/base/lineage.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace profagent {
namespace {

std::vector<char*> Environment(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

TEST(Lineage, IsFirstWithoutAWordFromAnybody) {
  std::vector<std::string> texts = {"HOME=/root", "CPUPROFILE=cpu.prof"};
  auto environment = Environment(texts);
  EXPECT_EQ(ReadLineage(environment.data()), Lineage::kFirst);
  EXPECT_EQ(CountVariables(environment.data()), 2u);
}

// The program prints its environment: it must find what its parent gave it, and nothing of ours.
TEST(Lineage, TakesItsWordOutOfTheEnvironment) {
  std::vector<std::string> texts = {"A=1", "PROFAGENT_LINEAGE=later", "B=2"};
  auto environment = Environment(texts);
  EXPECT_EQ(ReadLineage(environment.data()), Lineage::kLater);
  ASSERT_EQ(CountVariables(environment.data()), 2u);
  EXPECT_STREQ(environment[1], "B=2");
}

TEST(Lineage, HandsTheWordToAProgramThatPreloadsUs) {
  std::vector<std::string> texts = {"LD_PRELOAD=/x/libprofagent.so", "A=1"};
  auto environment = Environment(texts);
  char* room[4];
  auto* handed = const_cast<char**>(WithLineage(environment.data(), true, room));
  ASSERT_EQ(CountVariables(handed), 3u);
  EXPECT_EQ(ReadLineage(handed), Lineage::kFirstByExec);
  EXPECT_EQ(CountVariables(environment.data()), 2u);  // the caller's own array is untouched
}

// A thread that sets a variable while another one's vfork child executes a program: what was counted is less than there is by then.
TEST(Lineage, LeavesOutWhatHasComeSinceTheCount) {
  std::vector<std::string> texts = {"LD_PRELOAD=/x/libprofagent.so", "A=1", "B=2"};
  auto environment = Environment(texts);
  char end[] = "here";
  char* room[5] = {nullptr, nullptr, nullptr, nullptr, end};  // as for two
  auto* handed = const_cast<char**>(WithLineage(environment.data(), true, {room, 4}));
  EXPECT_EQ(CountVariables(handed), 3u);
  EXPECT_EQ(ReadLineage(handed), Lineage::kFirstByExec);
  EXPECT_EQ(room[4], end);
  char text[32];
  EXPECT_EQ(CountVariables(WithoutPreload(environment.data(), {room, 4}, text)), 2u);
  EXPECT_EQ(room[4], end);
}

TEST(Lineage, SaysNothingToAProgramThatDoesNot) {
  std::vector<std::string> texts = {"LD_PRELOAD=/x/other.so"};
  auto environment = Environment(texts);
  char* room[3];
  EXPECT_EQ(WithLineage(environment.data(), false, room), environment.data());
}

std::vector<std::string> WithoutUs(std::vector<std::string> texts) {
  auto environment = Environment(texts);
  std::vector<char*> room(CountVariables(environment.data()) + 2);
  // Exactly as much as is asked for: what is written past the end, the address sanitizer sees.
  std::vector<char> text(PreloadSize(environment.data()));
  char* const* left = WithoutPreload(environment.data(), room, text.data());
  return {left, left + CountVariables(left)};
}

TEST(Lineage, APreloadIsTakenOutAndOthersStay) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(WithoutUs({"A=1", "LD_PRELOAD=/x/libprofagent.so", "B=2"}), (Texts{"A=1", "B=2"}));
  EXPECT_EQ(WithoutUs({"LD_PRELOAD=liba.so:/x/libprofagent.so libb.so"}),
            (Texts{"LD_PRELOAD=liba.so:libb.so"}));
  EXPECT_EQ(WithoutUs({"LD_PRELOAD=/x/libprofagent.so::liba.so"}), (Texts{"LD_PRELOAD=liba.so"}));
  EXPECT_EQ(WithoutUs({"LD_PRELOAD=liba.so", "A=libprofagent"}),
            (Texts{"LD_PRELOAD=liba.so", "A=libprofagent"}));
  EXPECT_EQ(WithoutUs({"LD_PRELOAD=a:libprofagent.so", "LD_PRELOAD=libprofagent.so:b"}),
            (Texts{"LD_PRELOAD=a", "LD_PRELOAD=b"}));
  EXPECT_EQ(WithoutUs({}), Texts{});
}

TEST(Lineage, FindsOurLibraryAmongOthers) {
  std::vector<std::string> texts = {"LD_PRELOAD=a.so:/x/libprofagent.so /y/b.so", "A=libprofagent"};
  EXPECT_EQ(OurLibraryIn(Environment(texts).data()), "/x/libprofagent.so");
  texts = {"LD_PRELOAD=a.so:b.so", "A=/x/libprofagent.so"};
  EXPECT_EQ(OurLibraryIn(Environment(texts).data()), "");
  EXPECT_EQ(OurLibraryIn(nullptr), "");
}

TEST(Lineage, BearsAMissingEnvironment) {
  EXPECT_EQ(ReadLineage(nullptr), Lineage::kFirst);
  EXPECT_EQ(WithLineage(nullptr, true, {}), nullptr);
}

}  // namespace
}  // namespace profagent
