#include "agent/capture/condition_waits.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace profagent {
namespace {

class ConditionWaitsTest : public testing::Test {
 protected:
  const void* const condition_ = reinterpret_cast<const void*>(0x7f0000001030);
  const void* const mutex_ = reinterpret_cast<const void*>(0x7f0000001008);
  std::unique_ptr<ConditionWaits> waits_ = std::make_unique<ConditionWaits>();
};

TEST_F(ConditionWaitsTest, MovesOneWaiterAtASignal) {
  EXPECT_FALSE(waits_->MayHold(condition_));
  EXPECT_EQ(waits_->Look(condition_).count, 0u);
  uint32_t first = waits_->Arrive(condition_, mutex_);
  uint32_t second = waits_->Arrive(condition_, mutex_);
  EXPECT_EQ(first, second) << "one entry a condition";
  EXPECT_TRUE(waits_->MayHold(condition_));
  EXPECT_EQ(waits_->Look(condition_).mutex, mutex_);
  EXPECT_EQ(waits_->Look(condition_).count, 2u);
  EXPECT_EQ(waits_->Move(condition_, mutex_, 1), 1u);
  EXPECT_EQ(waits_->Look(condition_).count, 1u);
  EXPECT_TRUE(waits_->Leave(condition_, first, true));
  EXPECT_FALSE(waits_->Leave(condition_, second, true)) << "a spurious wake-up: nobody signalled it";
  EXPECT_FALSE(waits_->MayHold(condition_));
}

TEST_F(ConditionWaitsTest, MovesAllAtABroadcast) {
  std::vector<uint32_t> entries;
  for (int i = 0; i < 100; ++i) entries.push_back(waits_->Arrive(condition_, mutex_));
  EXPECT_EQ(waits_->Move(condition_, mutex_, UINT32_MAX), 100u);
  EXPECT_EQ(waits_->Look(condition_).count, 0u);
  uint32_t late = waits_->Arrive(condition_, mutex_);
  EXPECT_EQ(waits_->Look(condition_).count, 1u) << "who comes after the broadcast is not woken by it";
  for (uint32_t entry : entries) EXPECT_TRUE(waits_->Leave(condition_, entry, true));
  EXPECT_FALSE(waits_->Leave(condition_, late, true));
}

// The signal was for another one, which has yet to return.
TEST_F(ConditionWaitsTest, DoesNotTakeAMoveFromAWaiterThatTimedOut) {
  uint32_t patient = waits_->Arrive(condition_, mutex_);
  uint32_t impatient = waits_->Arrive(condition_, mutex_);
  waits_->Move(condition_, mutex_, 1);
  EXPECT_FALSE(waits_->Leave(condition_, impatient, false));
  EXPECT_TRUE(waits_->Leave(condition_, patient, true));
}

// Or the mutex would have a waiter for ever.
TEST_F(ConditionWaitsTest, LeavesNoMoveBehindWhenTheLastWaiterTimesOut) {
  uint32_t only = waits_->Arrive(condition_, mutex_);
  waits_->Move(condition_, mutex_, 1);
  EXPECT_TRUE(waits_->Leave(condition_, only, false));
  EXPECT_EQ(waits_->Move(condition_, mutex_, 1), 0u);
}

// Undefined in POSIX, and works in libc. A move that the other mutex's waiter took away would leave one there for ever.
TEST_F(ConditionWaitsTest, KeepsTheWaitersOfSeveralMutexesApart) {
  const void* another = reinterpret_cast<const void*>(0x7f0000002008);
  uint32_t first = waits_->Arrive(condition_, mutex_);
  uint32_t second = waits_->Arrive(condition_, another);
  EXPECT_NE(first, second);
  EXPECT_EQ(waits_->Move(condition_, mutex_, UINT32_MAX), 1u);
  EXPECT_EQ(waits_->Look(condition_).mutex, another);
  EXPECT_FALSE(waits_->Leave(condition_, second, true));
  EXPECT_TRUE(waits_->Leave(condition_, first, true));
  EXPECT_FALSE(waits_->MayHold(condition_));
}

TEST_F(ConditionWaitsTest, IsEmptyInAForkedChild) {
  uint32_t entry = waits_->Arrive(condition_, mutex_);
  waits_->RestartAfterFork();
  EXPECT_FALSE(waits_->MayHold(condition_));
  EXPECT_FALSE(waits_->Leave(condition_, entry, true));
  EXPECT_EQ(waits_->Look(condition_).count, 0u);
}

}  // namespace
}  // namespace profagent
