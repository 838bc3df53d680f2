#include "agent/capture/virtual_signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace profagent {
namespace {

constexpr int kSigno = SIGUSR1;

std::atomic<int> g_ours{0};
std::atomic<int> g_applications{0};
void Ours(int, siginfo_t*, void*) { ++g_ours; }
void Applications(int) { ++g_applications; }

uintptr_t KernelHandler(int signo) {
  struct sigaction action;
  sigaction(signo, nullptr, &action);
  return reinterpret_cast<uintptr_t>(action.sa_sigaction);
}

class VirtualSignalsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(kSigno, SIG_DFL);
    g_ours = g_applications = 0;
  }
  void TearDown() override { signal(kSigno, SIG_DFL); }

  static KernelSigaction Action(uintptr_t handler, uint64_t flags = 0, uint64_t mask = 0) {
    return {handler, flags, 0, mask};
  }
  static inline const uintptr_t kApplications = reinterpret_cast<uintptr_t>(Applications);
  static inline const uintptr_t kOurs = reinterpret_cast<uintptr_t>(Ours);

  VirtualSignals signals_;
};

// Returning our own handler as the old action is how two profilers chain each other for ever.
TEST_F(VirtualSignalsTest, TheApplicationSeesOnlyWhatItSetItself) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  KernelSigaction old;
  KernelSigaction mine = Action(kApplications, SA_NODEFER, SignalBit(SIGTERM));
  EXPECT_EQ(signals_.Exchange(kSigno, &mine, &old), 0);
  EXPECT_TRUE(old.is_default());
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  EXPECT_EQ(signals_.Exchange(kSigno, nullptr, &old), 0);
  EXPECT_EQ(old.handler, kApplications);
  EXPECT_EQ(old.flags & SA_NODEFER, static_cast<uint64_t>(SA_NODEFER));
  EXPECT_EQ(old.mask, SignalBit(SIGTERM));
  EXPECT_FALSE(signals_.IsDefault(kSigno));
}

// Before a sandbox every signal must be the application's own again: our handler would make system calls that kill there.
TEST_F(VirtualSignalsTest, RetreatGivesTheKernelTheApplicationsActions) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  KernelSigaction mine = Action(kApplications);
  ASSERT_EQ(signals_.Exchange(kSigno, &mine, nullptr), 0);
  signals_.Retreat(AllSignalsBlocked(), SignalBit(kSigno));
  EXPECT_EQ(KernelHandler(kSigno), kApplications);
  EXPECT_FALSE(signals_.IsTaken(kSigno));
  signal(kSigno, SIG_IGN);  // goes straight to the kernel now
  signals_.Return(AllSignalsBlocked());
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  EXPECT_TRUE(signals_.ApplicationAction(kSigno).is_ignored());
}

// A late tick, or a signal that asked for a dump, would kill where the action is the default. The application is told the default
// nevertheless, and its next action is in force.
TEST_F(VirtualSignalsTest, RetreatLeavesAHandlerBehindWhereTheDefaultKills) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours));
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), SIGUSR2, Ours));
  signals_.Retreat(AllSignalsBlocked(), SignalBit(kSigno));
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  EXPECT_EQ(KernelHandler(SIGUSR2), 0u);
  KernelSigaction old;
  KernelSigaction standard = Action(0);
  EXPECT_EQ(signals_.Exchange(kSigno, &standard, &old), 0);
  EXPECT_TRUE(old.is_default());
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  KernelSigaction mine = Action(kApplications);
  EXPECT_EQ(signals_.Exchange(kSigno, &mine, &old), 0);
  EXPECT_TRUE(old.is_default());
  EXPECT_EQ(KernelHandler(kSigno), kApplications);
  EXPECT_FALSE(signals_.IsTaken(kSigno));
  signals_.Return(AllSignalsBlocked());
  EXPECT_EQ(KernelHandler(kSigno), kApplications);
  EXPECT_EQ(KernelHandler(SIGUSR2), kOurs);
  signals_.Exchange(kSigno, &standard, nullptr);
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  signal(SIGUSR2, SIG_DFL);
}

// Who fills in the kernel's structure itself reads back what it wrote.
TEST_F(VirtualSignalsTest, ARestorerIsTheApplicationsWhereItGaveOne) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  KernelSigaction mine{kApplications, SA_NODEFER, 4711, 0};
  ASSERT_EQ(signals_.Exchange(kSigno, &mine, nullptr, VirtualSignals::Restorer::kAsGiven), 0);
  EXPECT_EQ(signals_.ApplicationAction(kSigno).restorer, 4711u);
  EXPECT_EQ(signals_.ApplicationAction(kSigno).flags, static_cast<uint64_t>(SA_NODEFER));
  ASSERT_EQ(signals_.Exchange(kSigno, &mine, nullptr), 0);
  EXPECT_NE(signals_.ApplicationAction(kSigno).restorer, 4711u);
}

// A server that handles SIGTERM itself must not pay for us, and must not notice.
TEST_F(VirtualSignalsTest, WhileDefaultGivesTheKernelTheApplicationsOwnHandler) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours));
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  KernelSigaction mine = Action(kApplications);
  EXPECT_EQ(signals_.Exchange(kSigno, &mine, nullptr), 0);
  EXPECT_EQ(KernelHandler(kSigno), kApplications);
  raise(kSigno);
  EXPECT_EQ(g_applications, 1);
  EXPECT_EQ(g_ours, 0);
  KernelSigaction back = Action(0);
  EXPECT_EQ(signals_.Exchange(kSigno, &back, nullptr), 0);
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  raise(kSigno);
  EXPECT_EQ(g_ours, 1);
}

// nohup's SIGHUP must stay ignored.
TEST_F(VirtualSignalsTest, WhileDefaultLeavesAnIgnoredSignalAlone) {
  signal(kSigno, SIG_IGN);
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours));
  EXPECT_EQ(KernelHandler(kSigno), 1u);
  EXPECT_TRUE(signals_.ApplicationAction(kSigno).is_ignored());
}

TEST_F(VirtualSignalsTest, AnActionMayReplaceItself) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  KernelSigaction both = Action(kApplications);
  EXPECT_EQ(signals_.Exchange(kSigno, &both, &both), 0);
  EXPECT_TRUE(both.is_default());
  EXPECT_EQ(signals_.ApplicationAction(kSigno).handler, kApplications);
}

// dd-trace's profilers lose their handler to Python's signal module in this way.
TEST_F(VirtualSignalsTest, AHandlerReplacedBehindOurBackIsPutBackAndBecomesTheApplications) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer gives the kernel a handler of its own";
#endif
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  EXPECT_FALSE(signals_.RepairIfReplaced(kSigno));
  signal(kSigno, Applications);
  EXPECT_TRUE(signals_.RepairIfReplaced(kSigno));
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  EXPECT_EQ(signals_.ApplicationAction(kSigno).handler, kApplications);
  EXPECT_FALSE(signals_.RepairIfReplaced(kSigno));
}

TEST_F(VirtualSignalsTest, AnIgnoredSignalIsShownToTheNextProgram) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  KernelSigaction ignore = Action(1);
  EXPECT_EQ(signals_.Exchange(kSigno, &ignore, nullptr), 0);
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
  signals_.ShowIgnoredToKernel(kSigno);
  EXPECT_EQ(KernelHandler(kSigno), 1u);
  signals_.TakeAgain(kSigno);
  EXPECT_EQ(KernelHandler(kSigno), kOurs);
}

TEST_F(VirtualSignalsTest, NextHandlerDoesWhatTheKernelDoesBeforeItCallsOne) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  ucontext_t context = {};
  sigaddset(&context.uc_sigmask, SIGWINCH);
  uint64_t before = ChangeSignalMask(SIG_BLOCK, 0);
  bool would_kill = false;

  EXPECT_EQ(signals_.NextHandler(kSigno, &context, &would_kill), 0u);
  EXPECT_TRUE(would_kill);

  KernelSigaction once = Action(kApplications, SA_RESETHAND, SignalBit(SIGTERM));
  signals_.Exchange(kSigno, &once, nullptr);
  EXPECT_EQ(signals_.NextHandler(kSigno, &context, &would_kill), kApplications);
  EXPECT_FALSE(would_kill);
  EXPECT_EQ(ChangeSignalMask(SIG_BLOCK, 0), SignalBit(SIGWINCH) | SignalBit(SIGTERM) | SignalBit(kSigno));
  EXPECT_TRUE(signals_.IsDefault(kSigno)) << "SA_RESETHAND";

  KernelSigaction nested = Action(kApplications, SA_NODEFER);
  signals_.Exchange(kSigno, &nested, nullptr);
  EXPECT_EQ(signals_.NextHandler(kSigno, &context, &would_kill), kApplications);
  EXPECT_EQ(ChangeSignalMask(SIG_BLOCK, 0), SignalBit(SIGWINCH));

  KernelSigaction ignore = Action(1);
  signals_.Exchange(kSigno, &ignore, nullptr);
  EXPECT_EQ(signals_.NextHandler(kSigno, &context, &would_kill), 0u);
  EXPECT_FALSE(would_kill);
  SetSignalMask(before);
}

// The signal arrived for our handler, but meanwhile the application has set its own.
TEST_F(VirtualSignalsTest, PassOnGivesTheSignalToTheNewAction) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours));
  KernelSigaction mine = Action(kApplications);
  signals_.Exchange(kSigno, &mine, nullptr);
  siginfo_t info = {};
  info.si_code = SI_USER;
  info.si_pid = getpid();
  signals_.PassOn(kSigno, &info);
  EXPECT_EQ(g_applications, 1);
}

// A reader in a handler must see an action whole: the flags of one with the handler of another would run it
// wrongly.
TEST_F(VirtualSignalsTest, ConcurrentReadersSeeWholeActions) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  KernelSigaction first = Action(1 << 12, 0, 1 << 20);
  signals_.Exchange(kSigno, &first, nullptr);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t i = 2; !stop; i = i % 1000 + 2) {
      KernelSigaction action = Action(i << 12, 0, i << 20);
      signals_.Exchange(kSigno, &action, nullptr);
    }
  });
  int torn = 0;
  for (int i = 0; i < 200000; ++i) {
    KernelSigaction seen = signals_.ApplicationAction(kSigno);
    torn += seen.mask != seen.handler << 8;
  }
  stop = true;
  writer.join();
  EXPECT_EQ(torn, 0);
}

TEST_F(VirtualSignalsTest, DieOfEndsTheProcessByThatSignal) {
  ASSERT_TRUE(signals_.Take(AllSignalsBlocked(), kSigno, Ours, VirtualSignals::Hold::kAlways));
  EXPECT_EXIT(signals_.DieOf(kSigno), ::testing::KilledBySignal(kSigno), "");
}

}  // namespace
}  // namespace profagent
