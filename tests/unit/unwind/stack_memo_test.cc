// What a memo says of a stack is what a walk says: over some hundred random stacks that begin at the same few places and leave
// each other's return addresses behind.
#include "agent/unwind/stack_memo.h"

#include <alloca.h>

#include <random>

#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

class StackMemoTest : public UnwinderTest {
 public:
  void SetUp() override {
    UnwinderTest::SetUp();
    s_test = this;
    bounds_ = OwnStackBounds();
  }

  // As a hook: with a memo, and beside it without.
  __attribute__((noinline)) void Hook() {
    Frame walked[128], truth[128];
    StackMemo memo(hint_);
    WalkResult by_memo = unwinder_->WalkFromHere(bounds_, 0, walked, &memo);
    WalkResult by_walk = unwinder_->WalkFromHere(bounds_, 0, truth);
    std::vector<Frame> frames(truth, truth + by_walk.depth);
    ++asked_;
    known_ = memo.known();
    if (known_ != 0) {
      ++hits_;
      EXPECT_EQ(by_memo.depth, 0u);
      wrong_ += kept_[known_ - 1] != frames ? 1 : 0;
      return;
    }
    // The call sites in here are not part of it.
    wrong_ += std::vector<Frame>(walked, walked + by_memo.depth) != frames ? 1 : 0;
    kept_.push_back(frames);
    memo.Remember(kept_.size());
  }

  uint64_t hint_ = 1;
  uint64_t known_ = 0;
  uint64_t asked_ = 0, hits_ = 0, wrong_ = 0;
  std::vector<std::vector<Frame>> kept_;
  std::mt19937 random_;
  static inline StackMemoTest* s_test;
};

// Frames of several kinds: by rsp, by rbp with a size that varies, with two places to call from.
__attribute__((noinline)) void Descend(int depth);
__attribute__((noinline)) void Narrow(int depth) {
  Descend(depth);
  asm volatile("" ::: "memory");
}
__attribute__((noinline)) void Wide(int depth) {
  char room[200];
  asm volatile("" ::"r"(room) : "memory");
  Descend(depth);
  asm volatile("" ::: "memory");
}
__attribute__((noinline)) void Varying(int depth) {
  char* room = static_cast<char*>(alloca(16 + 32 * (StackMemoTest::s_test->random_() % 3)));
  asm volatile("" ::"r"(room) : "memory");
  Descend(depth);
  asm volatile("" ::: "memory");
}
__attribute__((noinline)) void FromTwoPlaces(int depth) {
  if (StackMemoTest::s_test->random_() % 2 == 0) {
    Descend(depth);
    asm volatile("nop" ::: "memory");
  } else {
    Descend(depth);
    asm volatile("" ::: "memory");
  }
}
void Descend(int depth) {
  auto* test = StackMemoTest::s_test;
  if (depth == 0) {
    test->Hook();
  } else {
    void (*const kWays[])(int) = {Narrow, Wide, Varying, FromTwoPlaces};
    kWays[test->random_() % 4](depth - 1);
  }
  asm volatile("" ::: "memory");
}

TEST_F(StackMemoTest, SaysWhatAWalkSays) {
  std::mt19937 order(1);
  for (int round = 0; round < 40'000; ++round) {
    random_.seed(order() % 300);
    Descend(static_cast<int>(random_() % 7));
  }
  printf("%lu stacks, %lu known\n", asked_, hits_);
  EXPECT_EQ(wrong_, 0u);
  EXPECT_GT(hits_, asked_ / 2);
}

TEST_F(StackMemoTest, KnowsAStackAtTheThirdTime) {
  std::vector<uint64_t> known;
  for (int i = 0; i < 4; ++i) {
    Narrow(0);
    known.push_back(known_);
  }
  EXPECT_EQ(known, (std::vector<uint64_t>{0, 0, 2, 2}));
}

TEST_F(StackMemoTest, TellsHintsApart) {
  for (int i = 0; i < 6; ++i) {
    hint_ = 1 + i % 2;
    Narrow(0);
    EXPECT_EQ(known_, i < 4 ? 0u : static_cast<uint64_t>(i - 1));
  }
}

TEST_F(StackMemoTest, ForgetsWhenALibraryIsClosed) {
  for (int i = 0; i < 4; ++i) {
    if (i == 3) unwinder_->BeforeLibraryClose(), unwinder_->AfterLibraryClose();
    Narrow(0);
    EXPECT_EQ(known_ != 0, i == 2);
  }
}

TEST_F(StackMemoTest, KnowsNothingAboutStacksOfUnknownBounds) {
  bounds_ = {};
  for (int i = 0; i < 4; ++i) {
    Narrow(0);
    EXPECT_EQ(known_, 0u);
  }
}

// A walk that was not finished, or whose result the hook could not keep, is not remembered.
TEST_F(StackMemoTest, RemembersNothingOfItself) {
  auto hook = [this]() __attribute__((noinline)) {
    Frame frames[128];
    StackMemo memo(7);
    WalkResult result = unwinder_->WalkFromHere(bounds_, 0, frames, &memo);
    EXPECT_GT(result.depth, 1u);
    EXPECT_EQ(memo.known(), 0u);
  };
  for (int i = 0; i < 4; ++i) hook();
}

TEST_F(StackMemoTest, DoesNotKeepAStackThatIsCut) {
  auto hook = [this]() __attribute__((noinline)) {
    Frame frames[3];
    StackMemo memo(8);
    WalkResult result = unwinder_->WalkFromHere(bounds_, 0, frames, &memo);
    EXPECT_EQ(result.end, WalkEnd::kDepthLimit);
    memo.Remember(1);
  };
  for (int i = 0; i < 4; ++i) hook();
}

}  // namespace
}  // namespace profagent
