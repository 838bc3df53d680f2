#include "symbolizer/run/run_environment.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace profagent {
namespace {

const AgentSettings kSettings{"/lib/libprofagent.so", "/dev/shm/ledgers", "/tmp/cpu.prof", 0};

bool Holds(const std::vector<std::string>& environment, const std::string& variable) {
  return std::count(environment.begin(), environment.end(), variable) == 1;
}
bool Names(const std::vector<std::string>& environment, const std::string& name) {
  return std::any_of(environment.begin(), environment.end(),
                     [&](const std::string& variable) { return variable.starts_with(name + "="); });
}

// A program that is run with jemalloc preloaded must still get it.
TEST(RunEnvironment, KeepsAPreloadedLibraryOfTheUser) {
  const char* const before[] = {"LD_PRELOAD=/lib/libjemalloc.so", "HOME=/root", nullptr};
  std::vector<std::string> environment = MakeRunEnvironment(before, kSettings);
  EXPECT_TRUE(Holds(environment, "LD_PRELOAD=/lib/libprofagent.so:/lib/libjemalloc.so"));
  EXPECT_TRUE(Holds(environment, "HOME=/root"));
}

TEST(RunEnvironment, PreloadsTheAgentAloneWhenNothingElseIsPreloaded) {
  const char* const before[] = {"LD_PRELOAD=", nullptr};
  EXPECT_TRUE(Holds(MakeRunEnvironment(before, kSettings), "LD_PRELOAD=/lib/libprofagent.so"));
  EXPECT_TRUE(Holds(MakeRunEnvironment(nullptr, kSettings), "LD_PRELOAD=/lib/libprofagent.so"));
}

// `profagent run -- profagent run -- app`: the inner run's processes belong to the inner run.
TEST(RunEnvironment, ReplacesWhatAnOuterRunSaid) {
  const char* const before[] = {"PROFAGENT_LEDGER_DIR=/outer", "CPUPROFILE=/outer.prof",
                                "PROFAGENT_LINEAGE=later", nullptr};
  std::vector<std::string> environment = MakeRunEnvironment(before, kSettings);
  EXPECT_TRUE(Holds(environment, "PROFAGENT_LEDGER_DIR=/dev/shm/ledgers"));
  EXPECT_TRUE(Holds(environment, "CPUPROFILE=/tmp/cpu.prof"));
  EXPECT_FALSE(Holds(environment, "PROFAGENT_LEDGER_DIR=/outer"));
  EXPECT_FALSE(Names(environment, "PROFAGENT_LINEAGE"));
}

TEST(RunEnvironment, LeavesTheFrequencyToTheEnvironmentUnlessOneWasGiven) {
  const char* const before[] = {"CPUPROFILE_FREQUENCY=250", nullptr};
  EXPECT_TRUE(Holds(MakeRunEnvironment(before, kSettings), "CPUPROFILE_FREQUENCY=250"));
  AgentSettings settings = kSettings;
  settings.cpu_hz = 1000;
  std::vector<std::string> environment = MakeRunEnvironment(before, settings);
  EXPECT_TRUE(Holds(environment, "CPUPROFILE_FREQUENCY=1000"));
  EXPECT_FALSE(Holds(environment, "CPUPROFILE_FREQUENCY=250"));
}

}  // namespace
}  // namespace profagent
