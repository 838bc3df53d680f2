#include "agent/capture/contention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <thread>
#include <vector>

#include "agent/base/thread_state.h"
#include "agent/ledger/ledger_view.h"
#include "tests/unit/capture/fake_clock.h"

namespace profagent {
namespace {

struct Totals {
  double count = 0;
  double nanos = 0;
  uint32_t sites = 0;
};

class ContentionTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize}));
    ASSERT_TRUE(unwinder_.Start(&ledger_));
    t_waits = {};
  }
  void TearDown() override {
    contention_.EndThread();
    t_state.stack_low = t_state.stack_high = 0;
    unwinder_.Stop();
    ledger_.Close();
  }
  void Start(uint64_t rate, uint64_t fraction, uint32_t depth = kDefaultMaxDepth) {
    contention_.Start({&ledger_, &unwinder_, rate, fraction, depth, false});
    clock_.emplace();  // Start looked for the real one
  }
  // noinline: each has its own frame, and so its own site.
  __attribute__((noinline)) void Wait(uint64_t nanos) {
    WaitSlot* slot = contention_.Begin(Primitive::kMutexLock, nullptr);
    FakeClock::Advance(nanos);
    contention_.End(slot, true);
    asm volatile("");
  }
  Totals Sum(ContentionKind kind) {
    contention_.EndThread();  // what this thread has not added yet
    Totals totals;
    LedgerView::Over(ledger_.bytes())->ForEachContentionSite([&](const LedgerView::ContentionSite& site) {
      if (site.kind != kind || site.count == 0) return;
      totals.count += static_cast<double>(site.count) / kContentionUnit;
      totals.nanos += static_cast<double>(site.nanos);
      ++totals.sites;
    });
    return totals;
  }
  static void KnowTheStack() {
    auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    t_state.stack_low = here - (1 << 20);
    t_state.stack_high = here + (1 << 16);
  }
  uint32_t CountWaiting() {
    uint32_t count = 0;
    LedgerView::Over(ledger_.bytes())->ForEachWaiter([&](const LedgerView::Waiter&) { ++count; });
    return count;
  }

  Ledger ledger_;
  Unwinder unwinder_;
  std::optional<FakeClock> clock_;
  static Contention contention_;  // 160 KiB
};
Contention ContentionTest::contention_;

TEST_F(ContentionTest, RecordsEveryWaitAtRateOne) {
  Start(1, 0);
  for (uint64_t i = 1; i <= 1000; ++i) Wait(i);
  Totals totals = Sum(ContentionKind::kBlock);
  EXPECT_EQ(totals.count, 1000);
  EXPECT_EQ(totals.nanos, 500'500);
}

// Go's TestBlockProfileBias: short waits that are sampled rarely must weigh as much as long ones that always are.
TEST_F(ContentionTest, IsUnbiased) {
  constexpr uint64_t kRate = 10'000;
  Start(kRate, 0);
  for (int i = 0; i < 100'000; ++i) Wait(kRate / 10);
  Totals often = Sum(ContentionKind::kBlock);
  // 100 000 draws of 0.1: a standard error of 1 %.
  EXPECT_NEAR(often.nanos, 100'000.0 * kRate / 10, 0.05 * 100'000.0 * kRate / 10);
  EXPECT_NEAR(often.count, 100'000, 5'000);
  ledger_.Close();
  t_waits = {};
  unwinder_.Stop();
  ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize}));
  ASSERT_TRUE(unwinder_.Start(&ledger_));
  Start(kRate, 0);
  for (int i = 0; i < 10'000; ++i) Wait(kRate);
  Totals seldom = Sum(ContentionKind::kBlock);
  EXPECT_EQ(seldom.count, 10'000);
  EXPECT_LT(std::abs(often.nanos - seldom.nanos) / often.nanos, 0.2);
}

TEST_F(ContentionTest, RecordsNothingThatCameToNothing) {
  Start(1, 0);
  WaitSlot* slot = contention_.Begin(Primitive::kMutexLock, nullptr);
  FakeClock::Advance(1000);
  contention_.End(slot, false);  // EDEADLK
  EXPECT_EQ(Sum(ContentionKind::kBlock).count, 0);
}

// One wait in ten is drawn and stands for ten, in delay and, however many wait for the same unlock, in count.
TEST_F(ContentionTest, DrawsWaitsWithoutBias) {
  alignas(64) int lock;
  for (uint32_t waiters : {1u, 4u}) {
    Start(0, 10);
    Totals before = Sum(ContentionKind::kMutex);
    constexpr int kUnlocks = 40'000;
    for (int i = 0; i < kUnlocks; ++i) {
      WaitSlot* slots[ThreadWaits::kSlots];
      for (uint32_t w = 0; w < waiters; ++w) slots[w] = contention_.Begin(Primitive::kMutexLock, &lock);
      FakeClock::Advance(1000);
      UnlockCharge charge = contention_.Unlock(&lock);
      if (charge.any()) contention_.RecordUnlock(Primitive::kMutexUnlock, &lock, charge);
      for (uint32_t w = waiters; w > 0; --w) contention_.End(slots[w - 1], true);
    }
    Totals after = Sum(ContentionKind::kMutex);
    // 40 000 draws (or more) of 0.1: a standard error of 1.5 %.
    EXPECT_NEAR(after.nanos - before.nanos, kUnlocks * waiters * 1000.0, 0.06 * kUnlocks * waiters * 1000.0)
        << waiters;
    EXPECT_NEAR(after.count - before.count, kUnlocks, 0.06 * kUnlocks) << waiters;
  }
}

// What a condition variable woke arrives unseen: the unlock is drawn instead.
TEST_F(ContentionTest, DrawsUnlocksThatEndTheWaitsOfWokenThreads) {
  Start(0, 10);
  for (int i = 0; i < 100'000; ++i) {
    contention_.RecordUnlock(Primitive::kMutexUnlock, nullptr,
                             {.drawn = {}, .woken = {Nanos{1000}, 1}, .others = 0});
  }
  Totals totals = Sum(ContentionKind::kMutex);
  EXPECT_NEAR(totals.count, 100'000, 5'000);
  EXPECT_EQ(totals.nanos, totals.count * 1000);
}

// Scaled when it is recorded (Go >= 1.20): a change of the fraction afterwards changes nothing.
TEST_F(ContentionTest, MultipliesAChargeByTheFractionOnce) {
  Start(0, 10);
  UnlockCharge charge{.drawn = {Nanos{1000}, 1}, .woken = {}, .others = 0};
  contention_.RecordUnlock(Primitive::kMutexUnlock, nullptr, charge);
  contention_.SetRates(0, 0);
  contention_.RecordUnlock(Primitive::kMutexUnlock, nullptr, charge);
  contention_.SetRates(0, 1'000'000);
  Totals after = Sum(ContentionKind::kMutex);
  EXPECT_EQ(after.count, 10);
  EXPECT_EQ(after.nanos, 10'000);
}

// It holds the lock meanwhile, and the only unlock that could count it is its own.
TEST_F(ContentionTest, IsNoWaiterOfTheLockThatItIsToUnlock) {
  Start(0, uint64_t{1} << 60);  // nobody is drawn
  alignas(64) int lock = 0;
  alignas(64) int another = 0;
  auto others = [&](const int& of) { return contention_.Unlock(&of).others; };

  WaitSlot* slot = contention_.Begin(Primitive::kMutexLock, &lock);
  EXPECT_EQ(others(lock), 1u);
  contention_.End(slot, true, true);
  EXPECT_EQ(others(lock), 0u);
  contention_.LeaveLate();
  EXPECT_EQ(others(lock), 0u);

  // Without an unlock in between: one wait, not two.
  contention_.End(contention_.Begin(Primitive::kMutexLock, &lock), true, true);
  slot = contention_.Begin(Primitive::kMutexLock, &another);
  std::thread([&] { EXPECT_EQ(others(lock), 0u); }).join();
  EXPECT_EQ(others(another), 1u);
  contention_.End(slot, true, true);
  contention_.EndThread();
  EXPECT_EQ(t_waits.late, nullptr);
  EXPECT_EQ(others(another), 0u);
}

TEST_F(ContentionTest, ShowsAWaitThatGoesOn) {
  Start(1, 0);
  KnowTheStack();
  WaitSlot* slot = contention_.Begin(Primitive::kMutexLock, nullptr);
  EXPECT_EQ(CountWaiting(), 1u);
  FakeClock::Advance(100);
  contention_.End(slot, true);
  EXPECT_EQ(CountWaiting(), 1u) << "ended, and not added yet: it must not be missing meanwhile";
  Wait(50);
  EXPECT_EQ(Sum(ContentionKind::kBlock).nanos, 150);
  EXPECT_EQ(CountWaiting(), 0u);
}

// Its stack is as far from the wait that it interrupted as the kernel's frame makes it.
__attribute__((noinline)) void InAHandler(auto wait) {
  volatile char kernels_frame[1024];
  kernels_frame[0] = 1;
  wait();
  asm volatile("" : : "r"(kernels_frame) : "memory");
}

// A handler that interrupts a wait and waits itself.
TEST_F(ContentionTest, NestsWaits) {
  Start(1, 1);
  // Apart as mutexes are: WokenFor names addresses inside them.
  alignas(64) int outer_lock;
  alignas(64) int inner_lock;
  KnowTheStack();
  WaitSlot* outer = contention_.Begin(Primitive::kMutexLock, &outer_lock);
  FakeClock::Advance(10);
  InAHandler([&] {
    WaitSlot* inner = contention_.Begin(Primitive::kMutexLock, &inner_lock);
    EXPECT_NE(outer, inner);
    FakeClock::Advance(5);
    contention_.End(inner, true);
  });
  EXPECT_EQ(contention_.CountWaiters(&outer_lock), 1u);
  EXPECT_EQ(contention_.CountWaiters(&inner_lock), 0u);
  contention_.End(outer, true);
  EXPECT_EQ(contention_.CountWaiters(&outer_lock), 0u);
  EXPECT_EQ(Sum(ContentionKind::kBlock).nanos, 15 + 5);
}

__attribute__((noinline)) void LeaveAWaitByAJump(Contention& contention, const void* lock) {
  volatile char deeper[512];
  deeper[0] = 1;
  contention.Begin(Primitive::kMutexLock, lock);
  asm volatile("" : : "r"(deeper) : "memory");
}

// siglongjmp out of a handler that interrupted a wait: the waiter must not be charged for to every unlock that follows.
TEST_F(ContentionTest, TakesBackAWaitThatWasLeftByAJump) {
  Start(1, 1);
  KnowTheStack();
  int lock;
  LeaveAWaitByAJump(contention_, &lock);
  EXPECT_EQ(contention_.CountWaiters(&lock), 1u);
  Wait(7);
  EXPECT_EQ(contention_.CountWaiters(&lock), 0u);
  EXPECT_EQ(Sum(ContentionKind::kBlock).nanos, 7);
}

TEST_F(ContentionTest, GivesItsRecordsBackWhenAThreadEnds) {
  Start(1, 0);
  for (int i = 0; i < 200; ++i) {
    std::thread([&] {
      KnowTheStack();
      Wait(10);
      contention_.EndThread();
      Wait(10);  // in the destructor of a thread-local object
    }).join();
  }
  EXPECT_EQ(CountWaiting(), 0u);
  Totals totals = Sum(ContentionKind::kBlock);
  EXPECT_EQ(totals.count, 400);
  uint32_t records = 0;
  for (RecordId id = ledger_.header()->waiters; id != 0; id = ledger_.At<WaiterRecord>(id)->next) ++records;
  EXPECT_EQ(records, 1u);
}

// libc's own for SIGEV_THREAD: one for each expiry, and a new thread looks through all records that are taken.
TEST_F(ContentionTest, KeepsNoRecordOfAThreadWhoseEndNobodyTells) {
  Start(1, 0);
  for (int i = 0; i < 200; ++i) std::thread([&] { Wait(10); }).join();
  EXPECT_EQ(CountWaiting(), 0u);
  EXPECT_EQ(Sum(ContentionKind::kBlock).count, 200);
  uint32_t records = 0;
  for (RecordId id = ledger_.header()->waiters; id != 0; id = ledger_.At<WaiterRecord>(id)->next) ++records;
  EXPECT_EQ(records, 1u);
}

__attribute__((noinline)) void WaitAtDepth(Contention& contention, int depth) {
  if (depth == 0) {
    WaitSlot* slot = contention.Begin(Primitive::kSemWait, nullptr);
    FakeClock::Advance(1);
    contention.End(slot, true);
  } else {
    WaitAtDepth(contention, depth - 1);
  }
  asm volatile("");
}

// The primitive is a frame: a stack at the limit has exactly so many, the last one saying that it was cut.
TEST_F(ContentionTest, CutsAStackAtTheDepthLimit) {
  for (uint32_t depth : {16u, 128u, 300u}) {
    Start(1, 0, depth);
    WaitAtDepth(contention_, 1100);
    contention_.EndThread();
    size_t longest = 0;
    LedgerView::Over(ledger_.bytes())->ForEachContentionSite([&](const LedgerView::ContentionSite& site) {
      EXPECT_EQ(site.stack.frames[0], PrimitiveFrame(Primitive::kSemWait));
      EXPECT_EQ(site.stack.frames.back(), MakeSynthetic(SyntheticFrame::kTruncated));
      EXPECT_EQ(site.stack.end, WalkEnd::kDepthLimit);
      longest = std::max(longest, site.stack.frames.size());
    });
    EXPECT_EQ(longest, depth);
  }
}

}  // namespace
}  // namespace profagent
