#include "agent/capture/foreign_signals.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

constexpr int kSigno = SIGUSR1;

siginfo_t Info(int code, int value = 0) {
  siginfo_t info = {};
  info.si_signo = kSigno;
  info.si_code = code;
  info.si_pid = getpid();
  info.si_value.sival_int = value;
  return info;
}

class ForeignSignalsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(slots_.Start());
    foreign_.Start(&slots_, kSigno);
    t_state = {};
    BecomeThread();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, kSigno);
    pthread_sigmask(SIG_BLOCK, &set, &mask_before_);
  }
  void TearDown() override {
    siginfo_t info;
    while (Arrives(&info)) {
    }
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
    t_state = {};
  }

  // Gives the calling thread a slot.
  ThreadSlot* BecomeThread() {
    ThreadSlot* slot = slots_.Acquire();
    slot->tid = static_cast<uint32_t>(gettid());
    t_state.slot_plus_one = slot->index + 1;
    return slot;
  }
  static bool Arrives(siginfo_t* info, int millis = 0) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, kSigno);
    struct timespec time = {millis / 1000, millis % 1000 * 1'000'000};
    return sigtimedwait(&set, info, &time) == kSigno;
  }
  void Hold(const siginfo_t& info) { foreign_.Hold(info, foreign_.age()); }

  ThreadSlots slots_;
  ForeignSignals foreign_;
  sigset_t mask_before_ = {};
};

TEST_F(ForeignSignalsTest, OneWaitsForTheThreadAndOneForTheProcess) {
  foreign_.Block(true);
  EXPECT_FALSE(foreign_.IsPending());
  Hold(Info(SI_USER, 1));
  Hold(Info(SI_QUEUE, 2));
  Hold(Info(SI_TKILL, 3));
  Hold(Info(SI_TKILL, 4));
  EXPECT_TRUE(foreign_.IsPending());
  siginfo_t info = {};
  ASSERT_TRUE(foreign_.TakeWhatWaits(&info));
  EXPECT_EQ(info.si_value.sival_int, 3) << "its own comes first";
  ASSERT_TRUE(foreign_.TakeWhatWaits(&info));
  EXPECT_EQ(info.si_value.sival_int, 1);
  EXPECT_FALSE(foreign_.TakeWhatWaits(&info));
  EXPECT_FALSE(foreign_.IsPending());
}

// What the kernel does with pending signals on SIG_IGN; and one that was on its way to us must not come back later.
TEST_F(ForeignSignalsTest, WhatIsIgnoredIsGone) {
  foreign_.Block(true);
  uint32_t age = foreign_.age();
  Hold(Info(SI_USER));
  Hold(Info(SI_TKILL));
  foreign_.Discard();
  EXPECT_FALSE(foreign_.IsPending());
  foreign_.Hold(Info(SI_USER), age);
  foreign_.Hold(Info(SI_TKILL), age);
  EXPECT_FALSE(foreign_.IsPending());
  Hold(Info(SI_TKILL));
  EXPECT_TRUE(foreign_.IsPending());
}

TEST_F(ForeignSignalsTest, AnOfferGoesToAThreadThatLivesAndWantsIt) {
  foreign_.Block(true);
  std::atomic<int> step{0};
  std::thread dead([&] {
    BecomeThread();
    foreign_.Block(false);
    t_state = {};
  });
  dead.join();
  bool got = false;
  std::thread taker([&] {
    BecomeThread();
    foreign_.Block(true);
    foreign_.Wait(true);
    step = 1;
    step.notify_all();
    siginfo_t info = {};
    got = Arrives(&info, 5000) && foreign_.IsOffer(info) && foreign_.TakeWhatWaits(&info) &&
          info.si_value.sival_int == 7;
    foreign_.Wait(false);
  });
  step.wait(0);
  Hold(Info(SI_USER, 7));
  EXPECT_TRUE(foreign_.OfferToTaker());
  taker.join();
  EXPECT_TRUE(got);
  EXPECT_FALSE(foreign_.OfferToTaker()) << "nobody wants it any more";
}

TEST_F(ForeignSignalsTest, WhatWaitsComesWhenItIsLetThrough) {
  foreign_.Block(true);
  Hold(Info(SI_USER));
  foreign_.LetThrough();
  siginfo_t info = {};
  EXPECT_FALSE(Arrives(&info)) << "still blocked";
  foreign_.Block(false);
  foreign_.LetThrough();
  ASSERT_TRUE(Arrives(&info));
  EXPECT_TRUE(foreign_.IsOffer(info));
}

// The thread that made the descriptor reads the signal as it was sent; what another thread passes on to it, with its
// sender and all but the code, which sigwait and handlers get right too.
TEST_F(ForeignSignalsTest, AReaderOfADescriptorIsGivenWhatNobodyWants) {
  sigset_t without;
  sigemptyset(&without);
  foreign_.Block(true);
  int fd = signalfd(-1, &without, SFD_NONBLOCK | SFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  foreign_.ReadBy(fd, SignalBit(kSigno));
  EXPECT_TRUE(foreign_.IsReader());
  Hold(Info(SI_USER));
  foreign_.BeginToRead();
  struct signalfd_siginfo read_info = {};
  ASSERT_EQ(read(fd, &read_info, sizeof read_info), static_cast<ssize_t>(sizeof read_info));
  EXPECT_EQ(read_info.ssi_code, SI_USER);
  EXPECT_EQ(read_info.ssi_pid, static_cast<uint32_t>(getpid()));

  std::thread other([&] {
    BecomeThread();
    foreign_.Block(true);
    Hold(Info(SI_USER));
    EXPECT_FALSE(foreign_.IsReader());
    foreign_.OfferToReader();
  });
  other.join();
  struct pollfd file = {fd, POLLIN, 0};
  EXPECT_EQ(poll(&file, 1, 5000), 1);
  siginfo_t info = {};
  ASSERT_TRUE(Arrives(&info));
  foreign_.RestoreCode(&info);
  EXPECT_EQ(info.si_code, SI_USER);
  EXPECT_EQ(info.si_pid, getpid());
  close(fd);
}

}  // namespace
}  // namespace profagent
