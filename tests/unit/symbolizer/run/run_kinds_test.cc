#include "symbolizer/run/run_kinds.h"

#include <gtest/gtest.h>

namespace profagent {
namespace {

// `profagent run -- ./app` promises all of it.
TEST(WantedKinds, AreAllUnlessSomebodySaysOtherwise) {
  WantedKinds kinds;
  kinds.HeedEnvironment(nullptr);
  EXPECT_EQ(kinds.Written(), (std::vector{ProfileKind::kCpu, ProfileKind::kHeap, ProfileKind::kHeapPeak,
                                          ProfileKind::kBlock, ProfileKind::kMutex}));
}

TEST(WantedKinds, AreLessWithARateOfZeroInTheEnvironment) {
  const char* const environment[] = {"MEMPROFILERATE=0", "BLOCKRATE=10", "MUTEXFRACTION=00", nullptr};
  WantedKinds kinds;
  kinds.HeedEnvironment(environment);
  EXPECT_EQ(kinds.Written(), (std::vector{ProfileKind::kCpu, ProfileKind::kBlock}));
}

TEST(WantedKinds, KeepWhatWasAskedForWhateverTheEnvironmentSays) {
  const char* const environment[] = {"MEMPROFILERATE=0", nullptr};
  WantedKinds kinds;
  kinds.heap.asked = true;
  kinds.HeedEnvironment(environment);
  EXPECT_TRUE(kinds.heap.taken);
}

// What the agent refuses with a line of its own is no zero.
TEST(WantedKinds, AreNotSwitchedOffByNonsense) {
  for (const char* value :
       {"MEMPROFILERATE=", "MEMPROFILERATE=0x0", "MEMPROFILERATE=off", "MEMPROFILERATE2=0"}) {
    const char* const environment[] = {value, nullptr};
    EXPECT_FALSE(IsSwitchedOff(environment, ProfileKind::kHeap)) << value;
  }
  const char* const environment[] = {"CPUPROFILE_FREQUENCY=0", nullptr};
  EXPECT_FALSE(IsSwitchedOff(environment, ProfileKind::kCpu));
}

}  // namespace
}  // namespace profagent
