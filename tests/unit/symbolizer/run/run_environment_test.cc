#include "symbolizer/run/run_environment.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace profagent {
namespace {

AgentSettings Settings(const WantedKinds& kinds = {}) {
  AgentSettings settings{"/lib/libprofagent.so", "/dev/shm/ledgers", kinds, {}};
  for (ProfileKind kind : kinds.Written())
    settings.files[kind] = "/tmp/" + std::string(RunKindOf(kind).name) + ".prof";
  return settings;
}

WantedKinds Only(KindRequest WantedKinds::*kind) {
  WantedKinds kinds;
  kinds.cpu.taken = kinds.heap.taken = kinds.block.taken = kinds.mutex.taken = false;
  (kinds.*kind).taken = (kinds.*kind).asked = true;
  return kinds;
}

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
  std::vector<std::string> environment = MakeRunEnvironment(before, Settings());
  EXPECT_TRUE(Holds(environment, "LD_PRELOAD=/lib/libprofagent.so:/lib/libjemalloc.so"));
  EXPECT_TRUE(Holds(environment, "HOME=/root"));
}

TEST(RunEnvironment, PreloadsTheAgentAloneWhenNothingElseIsPreloaded) {
  const char* const before[] = {"LD_PRELOAD=", nullptr};
  EXPECT_TRUE(Holds(MakeRunEnvironment(before, Settings()), "LD_PRELOAD=/lib/libprofagent.so"));
  EXPECT_TRUE(Holds(MakeRunEnvironment(nullptr, Settings()), "LD_PRELOAD=/lib/libprofagent.so"));
}

// `profagent run -- profagent run -- app`: the inner run's processes belong to the inner run.
TEST(RunEnvironment, ReplacesWhatAnOuterRunSaid) {
  const char* const before[] = {"PROFAGENT_LEDGER_DIR=/outer", "PROFAGENT_CPUPROFILE=/outer.prof",
                                "PROFAGENT_LINEAGE=later", nullptr};
  std::vector<std::string> environment = MakeRunEnvironment(before, Settings());
  EXPECT_TRUE(Holds(environment, "PROFAGENT_LEDGER_DIR=/dev/shm/ledgers"));
  EXPECT_TRUE(Holds(environment, "PROFAGENT_CPUPROFILE=/tmp/cpu.prof"));
  EXPECT_FALSE(Holds(environment, "PROFAGENT_CPUPROFILE=/outer.prof"));
  EXPECT_FALSE(Holds(environment, "PROFAGENT_LEDGER_DIR=/outer"));
  EXPECT_FALSE(Names(environment, "PROFAGENT_LINEAGE"));
}

TEST(RunEnvironment, LeavesTheFrequencyToTheEnvironmentUnlessOneWasGiven) {
  const char* const before[] = {"CPUPROFILE_FREQUENCY=250", nullptr};
  EXPECT_TRUE(Holds(MakeRunEnvironment(before, Settings()), "CPUPROFILE_FREQUENCY=250"));
  WantedKinds kinds;
  kinds.cpu.rate = 1000;
  std::vector<std::string> environment = MakeRunEnvironment(before, Settings(kinds));
  EXPECT_TRUE(Holds(environment, "CPUPROFILE_FREQUENCY=1000"));
  EXPECT_FALSE(Holds(environment, "CPUPROFILE_FREQUENCY=250"));
}

TEST(RunEnvironment, NamesAFileForEveryKind) {
  std::vector<std::string> environment = MakeRunEnvironment(nullptr, Settings());
  for (const char* variable :
       {"PROFAGENT_CPUPROFILE=/tmp/cpu.prof", "PROFAGENT_HEAPPROFILE=/tmp/heap.prof",
        "PEAKPROFILE=/tmp/heap-peak.prof", "BLOCKPROFILE=/tmp/block.prof", "MUTEXPROFILE=/tmp/mutex.prof"}) {
    EXPECT_TRUE(Holds(environment, variable)) << variable;
  }
}

// Only what was asked for: a heap profile is taken unless its rate is 0, the others as soon as a variable of theirs is
// there.
TEST(RunEnvironment, SwitchesOffWhatIsNotWanted) {
  const char* const before[] = {"MEMPROFILERATE=1", "HEAPPROFILE=/x",  "PEAKPROFILE=/x",  "BLOCKRATE=1",
                                "BLOCKPROFILE=/x",  "MUTEXFRACTION=1", "MUTEXPROFILE=/x", nullptr};
  std::vector<std::string> environment = MakeRunEnvironment(before, Settings(Only(&WantedKinds::cpu)));
  EXPECT_TRUE(Holds(environment, "MEMPROFILERATE=0"));
  for (const char* name : {"HEAPPROFILE", "PROFAGENT_HEAPPROFILE", "PEAKPROFILE", "BLOCKRATE", "BLOCKPROFILE",
                           "MUTEXFRACTION", "MUTEXPROFILE"}) {
    EXPECT_FALSE(Names(environment, name)) << name;
  }
  const char* const with_cpu[] = {"CPUPROFILE=/x", nullptr};
  environment = MakeRunEnvironment(with_cpu, Settings(Only(&WantedKinds::heap)));
  EXPECT_FALSE(Names(environment, "CPUPROFILE") || Names(environment, "PROFAGENT_CPUPROFILE"));
  EXPECT_FALSE(Names(environment, "MEMPROFILERATE")) << "the agent's default";
  EXPECT_TRUE(Names(environment, "PROFAGENT_HEAPPROFILE"));
}

// A program with gperftools in it wrote heap.prof.0001.heap and a cpu.prof of its own, and ran many times slower.
TEST(RunEnvironment, StartsNoProfilerOfGperftools) {
  const char* const before[] = {"CPUPROFILE=/x", "HEAPPROFILE=/x", nullptr};
  for (const char* const* environment : {before, static_cast<const char* const*>(nullptr)}) {
    const std::vector<std::string> variables = MakeRunEnvironment(environment, Settings());
    EXPECT_FALSE(Names(variables, "CPUPROFILE"));
    EXPECT_FALSE(Names(variables, "HEAPPROFILE"));
  }
}

TEST(RunEnvironment, PassesRatesOn) {
  WantedKinds kinds;
  kinds.heap.rate = 1;
  kinds.block.rate = 2;
  kinds.mutex.rate = 3;
  const char* const before[] = {"MEMPROFILERATE=7", "BLOCKRATE=7", "MUTEXFRACTION=7", nullptr};
  std::vector<std::string> environment = MakeRunEnvironment(before, Settings(kinds));
  EXPECT_TRUE(Holds(environment, "MEMPROFILERATE=1"));
  EXPECT_TRUE(Holds(environment, "BLOCKRATE=2"));
  EXPECT_TRUE(Holds(environment, "MUTEXFRACTION=3"));
  environment = MakeRunEnvironment(before, Settings());
  EXPECT_TRUE(Holds(environment, "MEMPROFILERATE=7"));
  EXPECT_TRUE(Holds(environment, "BLOCKRATE=7"));
}

// MEMPROFILERATE=0 in somebody's profile script must not make `--heap` an empty promise.
TEST(RunEnvironment, OptionOutweighsARateOfZero) {
  const char* const before[] = {"MEMPROFILERATE=0", "BLOCKRATE=0", nullptr};
  EXPECT_FALSE(Names(MakeRunEnvironment(before, Settings(Only(&WantedKinds::heap))), "MEMPROFILERATE"));
  EXPECT_FALSE(Names(MakeRunEnvironment(before, Settings(Only(&WantedKinds::block))), "BLOCKRATE"));
}

}  // namespace
}  // namespace profagent
