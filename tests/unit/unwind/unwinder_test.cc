#include "agent/unwind/unwinder.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include <string>
#include <vector>

#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

using UnwinderTest = UnwindFixture;

TEST_F(UnwinderTest, WalksFromASignalHandlerToTheStartOfTheProgram) {
  Capture capture = CaptureBySignal([] { raise(SIGUSR1); });
  ASSERT_GT(capture.frames.size(), 4u);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_TRUE(capture.Has("main"));
}

__attribute__((noinline)) int CompareForQsort(const void* left, const void* right) {
  raise(SIGUSR1);
  return *static_cast<const int*>(left) - *static_cast<const int*>(right);
}

TEST_F(UnwinderTest, WalksThroughLibraries) {
  Capture capture = CaptureBySignal([] {
    int numbers[] = {2, 1};
    qsort(numbers, 2, sizeof(int), CompareForQsort);
  });
  EXPECT_TRUE(capture.Has("qsort_r"));  // qsort ends in a jump to it
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

}  // namespace
}  // namespace profagent
