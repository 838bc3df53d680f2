#include "agent/lifecycle/own_stack.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace profagent {
namespace {

uintptr_t StackPointer() { return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); }

struct Seen {
  OwnStack* stack;
  uintptr_t at = 0;
  bool nested_ran = true;
};

// The program's alternate stack may have 8 KiB: encoding there would run over its neighbours.
TEST(OwnStack, RunsTheWorkElsewhereAndComesBack) {
  OwnStack stack;
  stack.Prepare();
  Seen seen{&stack};
  uintptr_t here = StackPointer();
  ASSERT_TRUE(stack.Run(
      [](void* argument) {
        volatile char room[128 * 1024];
        std::memset(const_cast<char*>(room), 1, sizeof room);
        static_cast<Seen*>(argument)->at = StackPointer() + static_cast<uintptr_t>(room[5] - 1);
      },
      &seen));
  EXPECT_GT(seen.at > here ? seen.at - here : here - seen.at, uintptr_t{64 * 1024});
}

// A crash inside the encoder enters the fatal-signal path, which must not start encoding again.
TEST(OwnStack, RefusesWorkFromInsideItsWork) {
  OwnStack stack;
  stack.Prepare();
  Seen seen{&stack};
  stack.Run(
      [](void* argument) {
        auto* seen = static_cast<Seen*>(argument);
        seen->nested_ran = seen->stack->Run([](void*) {}, nullptr);
      },
      &seen);
  EXPECT_FALSE(seen.nested_ran);
  EXPECT_TRUE(stack.Run([](void*) {}, nullptr));
}

}  // namespace
}  // namespace profagent
