#include "symbolizer/run/signal_text.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace profagent {
namespace {

TEST(SignalText, NamesTheSignalsThatLibcNames) {
  EXPECT_EQ(SignalText(SIGSEGV), "SIGSEGV");
  EXPECT_EQ(SignalText(SIGSTOP), "SIGSTOP");
  EXPECT_EQ(SignalText(SIGSYS), "SIGSYS");
}

// libc has no name for them, and its null pointer crashed `profagent run`.
TEST(SignalText, CountsRealTimeSignalsFromTheNearerEnd) {
  EXPECT_EQ(SignalText(34), "SIGRTMIN");
  EXPECT_EQ(SignalText(40), "SIGRTMIN+6");
  EXPECT_EQ(SignalText(49), "SIGRTMIN+15");
  EXPECT_EQ(SignalText(50), "SIGRTMAX-14");
  EXPECT_EQ(SignalText(64), "SIGRTMAX");
}

TEST(SignalText, HasAWordForEveryNumber) {
  EXPECT_EQ(SignalText(33), "signal 33");
  EXPECT_EQ(SignalText(0), "signal 0");
  EXPECT_EQ(SignalText(-1), "signal -1");
  EXPECT_EQ(SignalText(1000), "signal 1000");
}

}  // namespace
}  // namespace profagent
