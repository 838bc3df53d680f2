#include "agent/base/signal_text.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace profagent {
namespace {

TEST(SignalText, NamesTheSignalsThatLibcNames) {
  EXPECT_EQ(SignalText(SIGSEGV).view(), "SIGSEGV");
  EXPECT_EQ(SignalText(SIGSTOP).view(), "SIGSTOP");
  EXPECT_EQ(SignalText(SIGSYS).view(), "SIGSYS");
}

// libc has no name for them, and its null pointer crashed `profagent run`.
TEST(SignalText, CountsRealTimeSignalsFromTheNearerEnd) {
  EXPECT_EQ(SignalText(34).view(), "SIGRTMIN");
  EXPECT_EQ(SignalText(40).view(), "SIGRTMIN+6");
  EXPECT_EQ(SignalText(49).view(), "SIGRTMIN+15");
  EXPECT_EQ(SignalText(50).view(), "SIGRTMAX-14");
  EXPECT_EQ(SignalText(64).view(), "SIGRTMAX");
}

TEST(SignalText, HasAWordForEveryNumber) {
  EXPECT_EQ(SignalText(33).view(), "signal 33");
  EXPECT_EQ(SignalText(0).view(), "signal 0");
  EXPECT_EQ(SignalText(-1).view(), "signal -1");
  EXPECT_EQ(SignalText(1000).view(), "signal 1000");
}

}  // namespace
}  // namespace profagent
