#include <algorithm>

#include "agent/unwind/unwinder.h"
#include "tests/unit/unwind/code_in_the_wild.h"
#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

class FromAHook : public UnwinderTest {
 public:
  Capture Walk(uint32_t skip, bool with_bounds = true, size_t max_depth = 64) {
    bounds_ = with_bounds ? OwnStackBounds() : StackBounds{};
    frames_.assign(max_depth, Frame{});
    result_ = {};
    CallsTheHook(skip);
    return Result();
  }
};

TEST_F(FromAHook, BeginsAtTheCallOfTheHook) {
  Capture all = Walk(0);
  EXPECT_EQ(all.end, WalkEnd::kOutermost);
  EXPECT_TRUE(all.Has("main"));
  EXPECT_EQ(all.names[0], "CallsTheHook");
  EXPECT_EQ(all.names.back(), "_start");
  Capture skipped = Walk(1);
  EXPECT_EQ(skipped.frames.size() + 1, all.frames.size());
  EXPECT_TRUE(skipped.frames.back() == all.frames.back());
}

// The hook's own frames are passed over, whether they are on the trail of another walk or not; the answer is that of
// a walk that remembers nothing.
TEST_F(FromAHook, GivesTheSameStackColdAndWarm) {
  for (uint32_t skip = 0; skip < 4; ++skip) {
    Capture first, warm, among_signals;
    for (Capture* capture : {&first, &warm, &among_signals}) {
      if (capture == &among_signals) CaptureBySignal([] { KnownCaller([] { raise(SIGUSR1); }); });
      *capture = Walk(skip);
    }
    unwinder_->BeforeLibraryClose(), unwinder_->AfterLibraryClose();  // forgets cache and trail
    Capture cold = Walk(skip);
    ASSERT_EQ(cold.end, WalkEnd::kOutermost);
    EXPECT_EQ(first.names, cold.names);
    EXPECT_EQ(warm.names, cold.names);
    EXPECT_EQ(among_signals.names, cold.names);
  }
}

TEST_F(FromAHook, ReadsAStackOfUnknownBounds) {
  Capture known = Walk(0), unknown = Walk(0, false);
  EXPECT_EQ(unknown.end, WalkEnd::kOutermost);
  EXPECT_EQ(unknown.names, known.names);
}

TEST_F(FromAHook, KeepsTheLeafSideOfADeepStack) {
  for (int i = 0; i < 2; ++i) {  // with the trail, too
    Capture cut = Walk(0, true, 3);
    EXPECT_EQ(cut.end, WalkEnd::kDepthLimit);
    ASSERT_EQ(cut.frames.size(), 3u);
    EXPECT_EQ(cut.names[0], "CallsTheHook");
    EXPECT_TRUE(cut.frames.back() == MakeSynthetic(SyntheticFrame::kTruncated));
  }
}

// A frame that needs another register than rsp and rbp, in front of, and behind, the frames that are left out.
TEST_F(FromAHook, FollowsAllRegistersWhereAFrameNeedsThem) {
  bounds_ = OwnStackBounds();
  uint32_t at = 0;  // where the frame is
  for (uint32_t skip = 0; skip < 6; ++skip) {
    static uint32_t s_skip;
    s_skip = skip;
    frames_.assign(64, Frame{});
    CfaInScratchRegister([] {
      CallsTheHook(s_skip);
      asm volatile("" ::: "memory");  // no tail call
    });
    Capture capture = Result();
    EXPECT_EQ(capture.end, WalkEnd::kOutermost);
    EXPECT_EQ(capture.Has("CallsTheHook"), skip < 1);
    // How many frames of the lambda are between the two is the compiler's business.
    if (skip == 0) {
      auto found = std::find(capture.names.begin(), capture.names.end(), "CfaInScratchRegister");
      ASSERT_NE(found, capture.names.end());
      at = static_cast<uint32_t>(found - capture.names.begin());
    }
    EXPECT_EQ(capture.Has("CfaInScratchRegister"), skip <= at);
    EXPECT_TRUE(capture.Has("main"));
  }
}

// More frames left out than there are.
TEST_F(FromAHook, HasNothingToSayAboutFramesBehindTheLast) {
  Capture none = Walk(1000);
  EXPECT_EQ(none.frames.size(), 0u);
  EXPECT_EQ(none.end, WalkEnd::kOutermost);
}

}  // namespace
}  // namespace profagent
