#include "agent/capture/lock_waits.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "agent/capture/monotonic_clock.h"
#include "tests/unit/capture/fake_clock.h"

namespace profagent {
namespace {

class LockWaitsTest : public testing::Test {
 protected:
  static const void* Lock(uintptr_t number) {
    return reinterpret_cast<const void*>(0x7f0000000000 + number * 40);
  }
  LockWaits::Arrival Arrive(const void* lock) { return waits_->Arrive(lock, FakeClock::Now(), true); }
  uint64_t Unlock(const void* lock) { return waits_->Unlock(lock).waited.value; }

  FakeClock clock_;
  std::unique_ptr<LockWaits> waits_ = std::make_unique<LockWaits>();
};

TEST_F(LockWaitsTest, ChargesAllWhoWait) {
  auto first = Arrive(Lock(1));
  FakeClock::Advance(100);
  auto second = Arrive(Lock(1));
  FakeClock::Advance(1000);
  EXPECT_EQ(Unlock(Lock(1)), 1100u + 1000u);
  waits_->Leave(Lock(1), first);
  waits_->Leave(Lock(1), second);
  EXPECT_EQ(waits_->CountWaiters(Lock(1)), 0u);
}

// Or the second holder would pay for what the first one did.
TEST_F(LockWaitsTest, ChargesTheSameTimeOnce) {
  auto first = Arrive(Lock(1));
  auto second = Arrive(Lock(1));
  FakeClock::Advance(1000);
  EXPECT_EQ(Unlock(Lock(1)), 2000u);
  waits_->Leave(Lock(1), first);  // has the lock now
  FakeClock::Advance(50);
  EXPECT_EQ(Unlock(Lock(1)), 50u);
  waits_->Leave(Lock(1), second);
  FakeClock::Advance(50);
  EXPECT_EQ(Unlock(Lock(1)), 0u);
}

// A time-out takes its own wait away, nobody else's.
TEST_F(LockWaitsTest, ForgetsWhoGaveUp) {
  auto patient = Arrive(Lock(1));
  FakeClock::Advance(300);
  auto impatient = Arrive(Lock(1));
  FakeClock::Advance(500);
  waits_->Leave(Lock(1), impatient);
  FakeClock::Advance(200);
  EXPECT_EQ(Unlock(Lock(1)), 1000u);
  auto late = Arrive(Lock(1));
  FakeClock::Advance(10);
  waits_->Leave(Lock(1), late);  // came and went within one round
  FakeClock::Advance(90);
  EXPECT_EQ(Unlock(Lock(1)), 100u);
  waits_->Leave(Lock(1), patient);
}

TEST_F(LockWaitsTest, KeepsLocksApart) {
  std::vector<LockWaits::Arrival> arrivals;
  for (uintptr_t i = 0; i < 500; ++i) {
    arrivals.push_back(Arrive(Lock(i)));
    ASSERT_NE(arrivals.back().entry_plus_one, 0u) << i;
    FakeClock::Advance(1);
  }
  for (uintptr_t i = 0; i < 500; ++i) {
    EXPECT_EQ(Unlock(Lock(i)), 500 - i);
    waits_->Leave(Lock(i), arrivals[i]);
  }
}

// The filter must say "look" for as long as anybody waits, and let the unlock alone afterwards.
TEST_F(LockWaitsTest, LowersItsFilterWhenAllAreGone) {
  EXPECT_FALSE(waits_->MayHold(Lock(1)));
  auto first = Arrive(Lock(1));
  auto second = Arrive(Lock(1));
  EXPECT_TRUE(waits_->MayHold(Lock(1)));
  waits_->Leave(Lock(1), first);
  EXPECT_TRUE(waits_->MayHold(Lock(1)));
  waits_->Leave(Lock(1), second);
  EXPECT_FALSE(waits_->MayHold(Lock(1)));
}

TEST_F(LockWaitsTest, RefusesWhenItsBucketIsFull) {
  std::vector<std::pair<const void*, LockWaits::Arrival>> arrived;
  uint32_t refused = 0;
  for (uintptr_t i = 0; i < 10'000; ++i) {
    auto arrival = Arrive(Lock(i));
    refused += arrival.entry_plus_one == 0;
    arrived.emplace_back(Lock(i), arrival);
  }
  EXPECT_GE(refused, 10'000u - 4096u);
  EXPECT_LT(refused, 10'000u - 3500u);
  for (auto& [lock, arrival] : arrived) waits_->Leave(lock, arrival);
  for (uintptr_t i = 0; i < 10'000; ++i) {
    EXPECT_EQ(waits_->CountWaiters(Lock(i)), 0u);
    ASSERT_FALSE(waits_->MayHold(Lock(i))) << "a refused arrival left its mark";
  }
}

// It is charged to nobody, but an unlock knows of it.
TEST_F(LockWaitsTest, CountsAnArrivalThatIsNotKept) {
  auto kept = Arrive(Lock(1));
  auto other = waits_->Arrive(Lock(1), FakeClock::Now(), false);
  FakeClock::Advance(100);
  EXPECT_EQ(waits_->CountOthers(Lock(1)), 1u);
  LockWaits::Charge charge = waits_->Unlock(Lock(1));
  EXPECT_EQ(charge.waited.value, 100u);
  EXPECT_EQ(charge.waiters, 1u);
  waits_->Leave(Lock(1), kept);
  EXPECT_FALSE(waits_->MayHold(Lock(1))) << "an unlock has nobody to look for";
  EXPECT_EQ(waits_->CountOthers(Lock(1)), 1u);
  waits_->Leave(Lock(1), other);
  EXPECT_EQ(waits_->CountOthers(Lock(1)), 0u);
}

// The n-th object of each thread's arena, a stack's, a mapping's: equal addresses but for the upper bits.
TEST_F(LockWaitsTest, CountsLocksAtTheSamePlaceOfLargeMappingsApart) {
  for (uintptr_t distance : {uintptr_t{128} << 10, uintptr_t{8} << 20, uintptr_t{64} << 20}) {
    auto lock = [&](uintptr_t number) {
      return reinterpret_cast<const void*>(0x7f0000000000 + number * distance);
    };
    for (uintptr_t i = 0; i < 16; ++i) waits_->Arrive(lock(i), FakeClock::Now(), false);
    for (uintptr_t i = 0; i < 16; ++i) EXPECT_EQ(waits_->CountOthers(lock(i)), 1u) << distance;
    waits_->RestartAfterFork();
  }
}

// A thread that was stopped between its clock and its arrival: what lies before the last unlock was charged to others.
TEST_F(LockWaitsTest, DoesNotChargeTheTimeBeforeTheLastUnlockToTheNext) {
  auto first = Arrive(Lock(1));
  Nanos early = FakeClock::Now();
  FakeClock::Advance(1000);
  EXPECT_EQ(Unlock(Lock(1)), 1000u);
  auto late = waits_->Arrive(Lock(1), early, true);
  FakeClock::Advance(10);
  EXPECT_EQ(Unlock(Lock(1)), 20u);
  waits_->Leave(Lock(1), first);
  waits_->Leave(Lock(1), late);
}

// Threads that a broadcast woke: charged together, and each that returns takes its share away.
TEST_F(LockWaitsTest, ChargesAGroup) {
  ASSERT_TRUE(waits_->ArriveMany(Lock(1), 5, FakeClock::Now()));
  FakeClock::Advance(100);
  EXPECT_EQ(Unlock(Lock(1)), 500u);
  for (uint64_t left = 4; left > 0; --left) {
    waits_->LeaveAny(Lock(1));
    EXPECT_EQ(waits_->CountWaiters(Lock(1)), left);
    FakeClock::Advance(10);
    EXPECT_EQ(Unlock(Lock(1)), 10 * left);
  }
  waits_->LeaveAny(Lock(1));
  waits_->LeaveAny(Lock(1));  // one too many changes nothing
  EXPECT_FALSE(waits_->MayHold(Lock(1)));
  EXPECT_EQ(Unlock(Lock(1)), 0u);
}

TEST_F(LockWaitsTest, IsEmptyInAForkedChild) {
  auto arrival = Arrive(Lock(1));
  waits_->RestartAfterFork();
  EXPECT_FALSE(waits_->MayHold(Lock(1)));
  waits_->Leave(Lock(1), arrival);  // of the wait whose signal handler forked
  EXPECT_FALSE(waits_->MayHold(Lock(1)));
  EXPECT_EQ(Unlock(Lock(1)), 0u);
}

// With threads: what is charged is what was waited, to the nanosecond, but for the time after the release.
TEST(LockWaitsThreads, ChargesSumUpToTheWaits) {
  StartMonotonicClock();
  auto waits = std::make_unique<LockWaits>();
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<uint64_t> charged{0};
  std::atomic<uint64_t> waited{0};
  auto work = [&] {
    for (int i = 0; i < 3000; ++i) {
      Nanos since = MonotonicNow();
      if (pthread_mutex_trylock(&mutex) != 0) {
        auto arrival = waits->Arrive(&mutex, since, true);
        pthread_mutex_lock(&mutex);
        waited += (MonotonicNow() - since).value;
        waits->Leave(&mutex, arrival);
      }
      for (volatile int spin = 0; spin < 200;) spin = spin + 1;
      if (waits->MayHold(&mutex)) charged += waits->Unlock(&mutex).waited.value;
      pthread_mutex_unlock(&mutex);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(waits->CountWaiters(&mutex), 0u);
  EXPECT_FALSE(waits->MayHold(&mutex));
  EXPECT_LE(charged.load(), waited.load());
  EXPECT_EQ(waits->Unlock(&mutex).waited.value, 0u);
}

}  // namespace
}  // namespace profagent
