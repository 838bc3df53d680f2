#include "agent/capture/thread_slots.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace profagent {
namespace {

using Meaning = ThreadSlots::Meaning;

class ThreadSlotsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(slots_.Start()); }
  ThreadSlot* AcquireTimed() {
    ThreadSlot* slot = slots_.Acquire();
    slot->use.store(SlotUse::kTimed);
    return slot;
  }
  ThreadSlots slots_;
};

// The value comes back in si_value, and says whose timer it was.
TEST_F(ThreadSlotsTest, AValueLeadsToItsSlot) {
  ThreadSlot* a = AcquireTimed();
  ThreadSlot* b = AcquireTimed();
  EXPECT_EQ(slots_.Find(slots_.SignalValue(*a)).slot, a);
  EXPECT_EQ(slots_.Find(slots_.SignalValue(*b)).slot, b);
  EXPECT_EQ(slots_.Find(slots_.ProcessTimerValue()).meaning, Meaning::kProcess);
}

// Without it each of ten thousand threads was looked for among all others, once a second.
TEST_F(ThreadSlotsTest, ANumberLeadsToTheSlotThatWasGivenItLast) {
  constexpr uint32_t kNumber = 1000, kSamePlace = kNumber + ThreadSlots::kMaxSlots;
  EXPECT_EQ(slots_.NewestOf(kNumber), nullptr);
  ThreadSlot* old = AcquireTimed();
  ThreadSlot* young = AcquireTimed();
  slots_.SetNumber(old, kNumber);
  EXPECT_EQ(slots_.NewestOf(kNumber), old);
  slots_.SetNumber(young, kNumber);
  EXPECT_EQ(slots_.NewestOf(kNumber), young);
  EXPECT_EQ(slots_.NewestOf(kSamePlace), nullptr);
  slots_.SetNumber(old, kSamePlace);
  EXPECT_EQ(slots_.NewestOf(kNumber), nullptr);
  EXPECT_EQ(slots_.NewestOf(kSamePlace), old);
  slots_.Release(old);
  EXPECT_EQ(slots_.NewestOf(kSamePlace), nullptr);
}

// An application's own timer on the same signal carries numbers and pointers of its own.
TEST_F(ThreadSlotsTest, WhatApplicationsPutIntoTheirTimersIsForeign) {
  AcquireTimed();
  int object = 0;
  for (uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{0xffffffff}, ~uint64_t{0},
                         reinterpret_cast<uint64_t>(&object), reinterpret_cast<uint64_t>(this)}) {
    EXPECT_EQ(slots_.Find(value).meaning, Meaning::kForeign) << std::hex << value;
  }
}

// The kernel may deliver a signal of a timer that was deleted a moment ago. Taken for the application's it
// would kill the process; taken for the next thread's it would be counted for a stranger.
TEST_F(ThreadSlotsTest, ALateSignalIsStaleAndNeverTheNextOwners) {
  ThreadSlot* slot = AcquireTimed();
  uint64_t old_value = slots_.SignalValue(*slot);
  slot->use.store(SlotUse::kUntimed);
  EXPECT_EQ(slots_.Find(old_value).meaning, Meaning::kStale);
  slots_.Release(slot);
  EXPECT_EQ(slots_.Find(old_value).meaning, Meaning::kStale);
  ThreadSlot* again = AcquireTimed();
  ASSERT_EQ(again, slot);
  EXPECT_EQ(slots_.Find(old_value).meaning, Meaning::kStale);
  EXPECT_EQ(slots_.Find(slots_.SignalValue(*again)).slot, again);
}

TEST_F(ThreadSlotsTest, AForkedChildStartsWithNoneAndKnowsTheParentsAsStale) {
  ThreadSlot* slot = AcquireTimed();
  uint64_t old_value = slots_.SignalValue(*slot);
  slots_.Reset();
  EXPECT_EQ(slots_.in_use(), 0u);
  EXPECT_EQ(slots_.Find(old_value).meaning, Meaning::kStale);
  EXPECT_EQ(AcquireTimed(), slot);
  EXPECT_EQ(slots_.Find(old_value).meaning, Meaning::kStale);
}

TEST_F(ThreadSlotsTest, IsBoundedAndSaysSo) {
  std::vector<ThreadSlot*> all;
  while (ThreadSlot* slot = slots_.Acquire()) all.push_back(slot);
  EXPECT_EQ(all.size(), ThreadSlots::kMaxSlots);
  slots_.Release(all.back());
  EXPECT_EQ(slots_.Acquire(), all.back());
  EXPECT_EQ(slots_.Acquire(), nullptr);
}

TEST_F(ThreadSlotsTest, NeverGivesOneSlotToTwoThreads) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  std::atomic<int> clashes{0};
  for (int t = 1; t <= kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 20000; ++round) {
        ThreadSlot* a = slots_.Acquire();
        ThreadSlot* b = slots_.Acquire();
        a->birth = b->birth = static_cast<uint64_t>(t);
        if (a == b || a->birth != static_cast<uint64_t>(t)) ++clashes;
        slots_.Release(a);
        if (b->birth != static_cast<uint64_t>(t)) ++clashes;
        slots_.Release(b);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(clashes, 0);
  EXPECT_EQ(slots_.in_use(), 0u);
  EXPECT_LE(slots_.limit(), 2u * kThreads);
}

}  // namespace
}  // namespace profagent
