// The whole capture in this process, without interposition: timers, handler, unwinder, ledger.
#include "agent/capture/cpu_capture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/raw_syscall.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/perf_events.h"
#include "agent/capture/virtual_signals.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"
#include "tests/unit/sanitized.h"

namespace profagent {
namespace {

using testing::kSanitized;

double ThreadSeconds() { return static_cast<double>(ReadClock(CLOCK_THREAD_CPUTIME_ID).value) * 1e-9; }

// CPU time of this thread, whatever else the machine does.
__attribute__((noinline)) void Burn(double seconds) {
  double end = ThreadSeconds() + seconds;
  volatile uint64_t sum = 0;
  while (ThreadSeconds() < end) {
    for (int i = 0; i < 1000; ++i) sum = sum + static_cast<uint64_t>(i);
  }
}

// A thread that tells nobody of its end. No tick comes then: a sanitizer's runtime takes its things away, and here our handler is
// built to call it.
template <class Body>
std::thread StartThread(Body body) {
  return std::thread([body] {
    body();
    ChangeSignalMask(SIG_BLOCK, ~uint64_t{0});
  });
}

// Not destroyed: a late signal may still look at them.
Ledger& TestLedger() {
  static Ledger* ledger = new Ledger;
  return *ledger;
}
Unwinder& TestUnwinder() {
  static Unwinder* unwinder = new Unwinder;
  return *unwinder;
}

// Pending signals, timers among them, count against a limit that the processes of a user share. Root counts as a user that
// nobody else is, as long as this lives.
class OwnSignalCount {
 public:
  OwnSignalCount() : before_(getuid()) {
    getrlimit(RLIMIT_SIGPENDING, &limit_);
    if (geteuid() == 0) {
      EXPECT_EQ(setreuid(0x70000000u + static_cast<uid_t>(getpid()), kUnchanged), 0);
    }
  }
  ~OwnSignalCount() {
    setrlimit(RLIMIT_SIGPENDING, &limit_);
    if (geteuid() == 0) {
      EXPECT_EQ(setreuid(before_, kUnchanged), 0);
    }
  }
  OwnSignalCount(const OwnSignalCount&) = delete;
  OwnSignalCount& operator=(const OwnSignalCount&) = delete;

  void Limit(rlim_t most) const {
    rlimit limit = {most, limit_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_SIGPENDING, &limit), 0);
  }

 private:
  static constexpr auto kUnchanged = static_cast<uid_t>(-1);
  uid_t before_;
  rlimit limit_ = {};
};

class CpuCaptureTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(TestLedger().CreateAnonymous(Bytes(64 << 20)));
    ASSERT_TRUE(TestUnwinder().Start(&TestLedger()));
  }

  void Start(uint32_t hz, bool perf_events = false) {
    CpuCapture::Settings settings{};
    settings.ledger = &TestLedger();
    settings.unwinder = &TestUnwinder();
    settings.frequency = Hertz(hz);
    settings.signo = SIGPROF;
    settings.want_perf_events = perf_events;
    settings.max_depth = 128;
    settings.measure_handler = true;
    ticks_before_ = TestLedger().header()->cpu_ticks;
    ASSERT_TRUE(g_cpu_capture.Start(settings));
  }
  uint64_t Ticks() { return TestLedger().header()->cpu_ticks - ticks_before_; }
  uint64_t Losses(Loss loss) { return TestLedger().header()->losses[static_cast<uint32_t>(loss)]; }
  void TearDown() override { g_cpu_capture.Stop(); }

  uint64_t ticks_before_ = 0;
};

TEST_F(CpuCaptureTest, TicksTimesPeriodIsTheTimeSpent) {
  for (uint32_t hz : {100u, 1000u}) {
    Start(hz);
    double begin = ThreadSeconds();
    Burn(0.5);
    g_cpu_capture.Stop();
    double spent = ThreadSeconds() - begin;
    // One period is a matter of the random phase; the rest is exact, for Stop settles what the kernel owes.
    EXPECT_NEAR(static_cast<double>(Ticks()) / hz, spent, 1.01 / hz) << hz;
  }
}

bool HasTimer(pid_t tid) {
  std::ifstream timers("/proc/self/timers");
  std::string wanted = "notify: signal/tid." + std::to_string(tid);
  for (std::string line; std::getline(timers, line);) {
    if (line == wanted) return true;
  }
  return false;
}

// A tick that comes in the middle of the exec would be pending behind it, where nobody handles it.
TEST_F(CpuCaptureTest, AThreadThatWasFoundHasNoTimerInAnExec) {
  if (!std::ifstream("/proc/self/timers")) GTEST_SKIP() << "the kernel was built without /proc/PID/timers";
  std::atomic<bool> go{false};
  bool before = false, paused = true, after = false;
  std::thread worker = StartThread([&] {
    while (!go) usleep(100);
    before = HasTimer(gettid());
    g_cpu_capture.PauseThisThreadForExec();
    paused = HasTimer(gettid());
    g_cpu_capture.ResumeAfterFailedExec();
    after = HasTimer(gettid());
  });
  Start(100);
  go = true;
  worker.join();
  EXPECT_TRUE(before);
  EXPECT_FALSE(paused);
  EXPECT_TRUE(after);
}

TEST_F(CpuCaptureTest, ThreadsThatExistBeforeTheStartAreTimed) {
  std::atomic<bool> go{false};
  std::thread worker = StartThread([&] {
    while (!go) usleep(100);
    Burn(0.3);
  });
  usleep(1000);
  Start(1000);
  go = true;
  worker.join();
  g_cpu_capture.Stop();
  EXPECT_NEAR(static_cast<double>(Ticks()), 300, 30);
}

// Made without us, as by raw clone: nobody announces them.
TEST_F(CpuCaptureTest, ThreadsThatNobodyAnnouncesAreFoundByLookingAround) {
  Start(1000);
  std::thread worker = StartThread([] { Burn(0.3); });
  usleep(1000);
  g_cpu_capture.LookAround(true);
  worker.join();
  g_cpu_capture.Stop();
  EXPECT_NEAR(static_cast<double>(Ticks()), 300, 60);
}

// A sandbox that the kernel refused: what was timed is timed again, and nothing is counted that was not.
TEST_F(CpuCaptureTest, GoesOnAfterARetreat) {
  Start(1000);
  std::atomic<bool> over{false};
  std::thread worker = StartThread([&] {
    while (!over) Burn(0.01);
  });
  clockid_t workers = 0;
  ASSERT_EQ(pthread_getcpuclockid(worker.native_handle(), &workers), 0);
  g_cpu_capture.LookAround(true);
  Burn(0.1);
  g_cpu_capture.Retreat();
  EXPECT_EQ(g_cpu_capture.signo(), 0);
  uint64_t before = Ticks();
  Burn(0.1);
  EXPECT_LE(Ticks(), before + 1) << "but for one that was in its handler";
  double begin = ThreadSeconds() + static_cast<double>(ReadClock(workers).value) * 1e-9;
  g_cpu_capture.Return();
  EXPECT_EQ(g_cpu_capture.signo(), SIGPROF);
  Burn(0.2);
  g_cpu_capture.Stop();
  double spent = ThreadSeconds() + static_cast<double>(ReadClock(workers).value) * 1e-9 - begin;
  EXPECT_NEAR(static_cast<double>(Ticks() - before), spent * 1000, 10 + spent * 20);
  over = true;
  worker.join();
}

// Created before the door was shut, begun behind it.
TEST_F(CpuCaptureTest, AThreadThatBeginsInASandboxMakesNoSystemCall) {
  if (kSanitized) GTEST_SKIP() << "sanitizers make system calls of their own";
  Start(1000);
  ThreadSlot* slot = g_cpu_capture.PrepareThread();
  ASSERT_NE(slot, nullptr);
  g_cpu_capture.Retreat();
  std::atomic<bool> survived{false};
  std::thread worker([&] {
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return;
    g_cpu_capture.BeginThread(slot, {}, false);
    g_cpu_capture.EndThread();
    survived = true;
    syscall(SYS_exit, 0);
  });
  worker.join();
  EXPECT_TRUE(survived);
  g_cpu_capture.Return();
}

// Slots of the dead are used again, whoever made the threads.
TEST_F(CpuCaptureTest, ThreadsThatComeAndGoDoNotFillTheTable) {
  OwnSignalCount signals;
  Start(1000);
  for (int round = 0; round < 400; ++round) {
    std::thread worker = StartThread([] { g_cpu_capture.LookAround(true); });
    worker.join();
  }
  // Had every dead thread kept its timer, this would be the moment to run out of them. None is to be had now,
  // ...
  signals.Limit(0);
  auto lost = [&] { return Losses(Loss::kTimerLimit) + Losses(Loss::kThreadNotTimed); };
  uint64_t before = lost();
  ::testing::internal::CaptureStderr();
  std::thread worker = StartThread([] { g_cpu_capture.LookAround(true); });
  worker.join();
  std::string said = ::testing::internal::GetCapturedStderr();
  // ... so the capture gives up its own, says so in one line, and counts it, unless perf events serve instead.
  EXPECT_EQ(lost() == before, said.find("using perf events") != std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("RLIMIT_SIGPENDING"), std::string::npos) << said;
}

// The process timer starts when the thread timers are gone: nothing is counted twice.
TEST_F(CpuCaptureTest, TheProcessTimerTakesOverWithoutCountingTwice) {
  OwnSignalCount signals;
  Start(1000);
  double begin = static_cast<double>(ReadClock(CLOCK_PROCESS_CPUTIME_ID).value) * 1e-9;
  // Room for the one timer that the main thread gives up, and no more.
  std::vector<int32_t> taken;
  signals.Limit(200);
  for (int32_t timer; (timer = CreateTimer({CLOCK_MONOTONIC, 0, SIGUSR1, 0})) >= 0;) taken.push_back(timer);
  ::testing::internal::CaptureStderr();
  std::thread worker = StartThread([] {
    g_cpu_capture.LookAround(true);
    Burn(0.3);
  });
  Burn(0.3);
  worker.join();
  std::string said = ::testing::internal::GetCapturedStderr();
  double spent = static_cast<double>(ReadClock(CLOCK_PROCESS_CPUTIME_ID).value) * 1e-9 - begin;
  g_cpu_capture.Stop();
  for (int32_t timer : taken) DeleteTimer(timer);
  EXPECT_NE(said.find("one timer serves the process"), std::string::npos) << said;
  EXPECT_LT(static_cast<double>(Ticks()) / 1000, spent * 1.01);
  EXPECT_GT(static_cast<double>(Ticks()) / 1000, spent * 0.9);
}

TEST_F(CpuCaptureTest, PerfEventsMeetTheRateToo) {
  PerfEvent probe = OpenPerfEvent(static_cast<uint32_t>(gettid()), SIGPROF, Nanos(1'000'000));
  if (probe.fd < 0) GTEST_SKIP() << "perf_event_open: errno " << -probe.fd;
  ClosePerfEvent(probe);
  Start(1000, true);
  double begin = ThreadSeconds();
  Burn(0.3);
  double spent = ThreadSeconds() - begin;
  g_cpu_capture.Stop();
  EXPECT_GT(static_cast<double>(Ticks()) / 1000, spent * (probe.user_time_only ? 0.5 : 0.95));
  EXPECT_LT(static_cast<double>(Ticks()) / 1000, spent * 1.02);
}

// closefrom(0) closes our descriptors too, and their numbers become files of the application.
TEST_F(CpuCaptureTest, ADescriptorThatTheApplicationTookOverIsNotClosed) {
  PerfEvent event = OpenPerfEvent(static_cast<uint32_t>(gettid()), SIGPROF, Nanos(1'000'000));
  if (event.fd < 0) GTEST_SKIP() << "perf_event_open: errno " << -event.fd;
  EXPECT_TRUE(IsStillOurs(event));
  EXPECT_GT(event.fd, 255);
  EXPECT_EQ(fcntl(event.fd, F_GETFD), FD_CLOEXEC);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  ASSERT_EQ(dup2(pipe_ends[1], event.fd), event.fd);
  EXPECT_FALSE(IsStillOurs(event));
  ClosePerfEvent(event);
  EXPECT_EQ(write(event.fd, "x", 1), 1) << "still the application's";
  close(event.fd);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

// A thread that lived between two ticks of the kernel has no sample; its time is shown at the function it
// began with.
TEST_F(CpuCaptureTest, AFunctionThatWasNeverSampledHasAFrameAllTheSame) {
  auto address = reinterpret_cast<uintptr_t>(&Burn);
  Frame frame = TestUnwinder().FrameAt(CodeAddress{address});
  ASSERT_NE(frame.module(), ModuleId::kNone);
  EXPECT_EQ(frame.offset() + TestUnwinder().modules().load_bias(frame.module()), address);
  int data = 0;
  auto nowhere = reinterpret_cast<uintptr_t>(&data);
  EXPECT_EQ(TestUnwinder().FrameAt(CodeAddress{nowhere}), Frame::Of(ModuleId::kNone, nowhere));
}

TEST_F(CpuCaptureTest, ErrnoIsUntouchedByTheHandler) {
  Start(10000);
  double end = ThreadSeconds() + 0.2;
  errno = 4711;
  int changed = 0;
  while (ThreadSeconds() < end) changed += errno != 4711;
  EXPECT_EQ(changed, 0);
}

// --- the handler's stack: an application's alternate stack may have 8 KiB, and the kernel takes half of it
// ---

constexpr size_t kAlternateSize = 8192 + 4096;  // so that an overflow is seen, not felt
constexpr unsigned char kPaint = 0xa5;
alignas(64) unsigned char g_alternate[kAlternateSize];

size_t PaintedBytesUsed() {
  size_t clean = 0;
  while (clean < kAlternateSize && g_alternate[clean] == kPaint) ++clean;
  return kAlternateSize - clean;
}

__attribute__((noinline)) void Deep(int depth, const std::function<void()>& work) {
  if (depth == 0) {
    work();
  } else {
    Deep(depth - 1, work);
  }
  asm volatile("");  // not a tail call
}

TEST_F(CpuCaptureTest, TheHandlerNeedsTwoKibOfStackAtMost) {
  if (kSanitized) GTEST_SKIP() << "sanitizers have frames of their own";
  stack_t alternate = {};
  alternate.ss_sp = g_alternate;
  alternate.ss_size = kAlternateSize;
  stack_t before = {};
  ASSERT_EQ(sigaltstack(&alternate, &before), 0);

  // What the kernel's own frame takes on this processor.
  struct sigaction probe = {};
  probe.sa_handler = [](int) {};
  probe.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &probe, nullptr);
  memset(g_alternate, kPaint, sizeof g_alternate);
  raise(SIGUSR1);
  size_t kernel_frame = PaintedBytesUsed();
  ASSERT_GT(kernel_frame, 500u);

  memset(g_alternate, kPaint, sizeof g_alternate);
  Start(10000);
  Deep(300, [] { Burn(0.1); });  // deeper than max_depth
  Deep(20, [] { Burn(0.1); });
  Burn(0.1);
  g_cpu_capture.Stop();
  size_t used = PaintedBytesUsed() - kernel_frame;
  sigaltstack(&before, nullptr);
  ASSERT_GT(Ticks(), 100u);
  printf("the handler used %zu bytes of stack\n", used);
  EXPECT_LE(used, 2048u);
  EXPECT_GT(used, 100u) << "the handler did not run there";
}

}  // namespace
}  // namespace profagent
