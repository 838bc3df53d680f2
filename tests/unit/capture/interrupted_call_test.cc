#include "agent/capture/interrupted_call.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <thread>
#include <vector>

#include "agent/base/raw_syscall.h"
#include "agent/capture/handler_return.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

class InterruptedCallTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    page_ = static_cast<uint8_t*>(memory);
  }
  void TearDown() override { munmap(page_, 8192); }

  // Puts `code` so that it ends at `end`, and interrupts behind it.
  bool Restarts(std::vector<int> code, long rax = -EINTR, size_t end = 4096 + 100) {
    memset(page_, 0x90, 8192);
    for (size_t i = 0; i < code.size(); ++i) page_[end - code.size() + i] = static_cast<uint8_t>(code[i]);
    context_ = {};
    pc_ = reinterpret_cast<greg_t>(page_ + end);
    context_.uc_mcontext.gregs[REG_RIP] = pc_;
    context_.uc_mcontext.gregs[REG_RAX] = rax;
    context_.uc_mcontext.gregs[REG_RSI] = second_;
    context_.uc_mcontext.gregs[REG_RDX] = SYS_epoll_wait;
    context_.uc_mcontext.gregs[REG_R15] = SYS_io_uring_enter;
    context_.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(stack_);
    context_.uc_mcontext.gregs[REG_RBP] = reinterpret_cast<greg_t>(stack_ + 4);
    context_.uc_mcontext.gregs[REG_EFL] = flags_;
    memcpy(&context_.uc_sigmask, &mask_, sizeof mask_);
    return RestartInterruptedCall(&context_);
  }

  // As the kernel leaves a call that it begins again.
  void ShowRestarted(long number, long second = 0, greg_t behind = 2) {
    memset(page_, 0x90, 8192);
    page_[100] = 0x0f;
    page_[101] = 0x05;
    context_ = {};
    pc_ = reinterpret_cast<greg_t>(page_ + 100);
    context_.uc_mcontext.gregs[REG_RIP] = pc_;
    context_.uc_mcontext.gregs[REG_RCX] = pc_ + behind;
    context_.uc_mcontext.gregs[REG_RAX] = number;
    context_.uc_mcontext.gregs[REG_RSI] = second;
  }

  uint8_t* page_ = nullptr;
  ucontext_t context_ = {};
  greg_t pc_ = 0;
  uint64_t stack_[8] = {};
  greg_t second_ = 0;
  greg_t flags_ = 0;
  uint64_t mask_ = 0;
};

TEST_F(InterruptedCallTest, TheCallBeginsAgainWithItsNumber) {
  ASSERT_TRUE(Restarts({0xb8, SYS_poll, 0, 0, 0, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc_ - 2);
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_poll);
  // with an argument loaded in between, as in libc's epoll_pwait and recvfrom
  ASSERT_TRUE(Restarts({0xb8, 0x19, 0x01, 0, 0, 0x8b, 0x7c, 0x24, 0x04, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_epoll_pwait);
  ASSERT_TRUE(Restarts({0xb8, SYS_recvfrom, 0, 0, 0, 0x48, 0x8b, 0x74, 0x24, 0x08, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_recvfrom);
  // as in Ubuntu's pselect, which has a frame pointer
  ASSERT_TRUE(Restarts({0xb8, 0x0e, 0x01, 0, 0, 0x8b, 0x7d, 0xac, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_pselect6);
  // what liburing waits by: in a loop the number is kept in a register
  ASSERT_TRUE(Restarts({0xb8, 0xaa, 0x01, 0, 0, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_io_uring_enter);
  ASSERT_TRUE(Restarts({0x44, 0x89, 0xf8, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_io_uring_enter);
  ASSERT_TRUE(Restarts({0x89, 0xd0, 0x0f, 0x05}));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_epoll_wait);
}

// As all of libc's calls at which a thread may be cancelled come to the kernel since glibc 2.41.
TEST_F(InterruptedCallTest, TheNumberMayComeFromTheStack) {
  stack_[2] = SYS_poll;
  stack_[6] = SYS_epoll_wait;
  ASSERT_TRUE(Restarts({0x48, 0x8b, 0x44, 0x24, 0x10, 0x0f, 0x05}));  // mov rax, [rsp+16]
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc_ - 2);
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_poll);
  ASSERT_TRUE(Restarts({0x48, 0x8b, 0x45, 0x10, 0x0f, 0x05}));  // mov rax, [rbp+16], as Ubuntu has it
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_epoll_wait);
  EXPECT_FALSE(Restarts({0x48, 0x8b, 0x44, 0x24, 0x18, 0x0f, 0x05})) << "0 is read's";
  stack_[2] = uint64_t{1} << 32 | SYS_poll;
  EXPECT_FALSE(Restarts({0x48, 0x8b, 0x44, 0x24, 0x10, 0x0f, 0x05})) << "no number of a call";
}

TEST_F(InterruptedCallTest, TheNumberMayBeTheCallersArgument) {
  std::vector<int> cancellable = {0x4c, 0x8b, 0x44, 0x24, 0x08, 0x4c, 0x8b, 0x4c, 0x24,
                                  0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05};
  stack_[3] = SYS_poll;
  stack_[6] = SYS_epoll_wait;
  // mov rsi, [rsp+16]; mov r8, rax; mov rdi, r10; call
  std::vector<uint8_t> caller = {0x48, 0x8b, 0x74, 0x24, 0x10, 0x49, 0x89, 0xc0,
                                 0x4c, 0x89, 0xd7, 0xe8, 0,    0,    0,    0};
  std::vector<uint8_t> code(64, 0x90);
  code.insert(code.end(), caller.begin(), caller.end());
  stack_[0] = reinterpret_cast<uintptr_t>(code.data() + code.size());
  ASSERT_TRUE(Restarts(cancellable));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_poll);
  code[64 + 2] = 0x75;  // mov rsi, [rbp+16]; and a byte that means nothing here
  code[64 + 3] = 0x10;
  ASSERT_TRUE(Restarts(cancellable));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_epoll_wait);
  stack_[6] = SYS_close;
  EXPECT_FALSE(Restarts(cancellable)) << "the descriptor is closed already";
  stack_[6] = SYS_epoll_wait;
  code[64 + 1] = 0x90;
  EXPECT_FALSE(Restarts(cancellable)) << "no number in rsi";
  stack_[0] = 0x1000;
  EXPECT_FALSE(Restarts(cancellable)) << "a caller that is not there";
  stack_[0] = 0;
  EXPECT_FALSE(Restarts(cancellable));
}

TEST_F(InterruptedCallTest, EverythingElseKeepsItsResult) {
  std::vector<int> poll = {0xb8, SYS_poll, 0, 0, 0, 0x0f, 0x05};
  EXPECT_FALSE(Restarts(poll, 0)) << "a result";
  EXPECT_FALSE(Restarts(poll, -EAGAIN)) << "another error";
  EXPECT_FALSE(Restarts({0xb8, SYS_poll, 0, 0, 0, 0x90, 0x90})) << "not behind a system call";
  EXPECT_FALSE(Restarts({0xb8, SYS_close, 0, 0, 0, 0x0f, 0x05})) << "the descriptor is closed already";
  EXPECT_FALSE(Restarts({0xb8, SYS_connect, 0, 0, 0, 0x0f, 0x05})) << "the connection is under way";
  EXPECT_FALSE(Restarts({0x89, 0xf8, 0x0f, 0x05})) << "whoever calls syscall() has the number elsewhere";
  EXPECT_FALSE(Restarts({0xb8, SYS_poll, 0, 0, 0, 0x8b, 0x44, 0x24, 0x04, 0x0f, 0x05}))
      << "the load overwrites eax";
  EXPECT_FALSE(Restarts({0xb8, SYS_poll, 0, 0, 0, 0x8b, 0x45, 0x04, 0x0f, 0x05})) << "and this one";
}

TEST_F(InterruptedCallTest, WhatAHandlerHasEndedIsNotBegunAgain) {
  std::vector<int> poll = {0xb8, SYS_poll, 0, 0, 0, 0x0f, 0x05};
  ASSERT_TRUE(Restarts(poll));
  flags_ = kResumeFlag;
  EXPECT_FALSE(Restarts(poll));
}

// The kernel delivers a signal of the thread, as a tick is, before one of the process, which has woken it.
TEST_F(InterruptedCallTest, WhatAHandlerIsAboutToEndIsNotBegunAgain) {
  std::vector<int> poll = {0xb8, SYS_poll, 0, 0, 0, 0x0f, 0x05};
  AllSignalsBlocked blocked;
  struct sigaction action = {};
  for (auto handler : {static_cast<sighandler_t>([](int) {}), SIG_DFL}) {
    for (int flags : {0, SA_RESTART}) {
      action.sa_handler = handler;
      action.sa_flags = flags;
      sigaction(SIGUSR2, &action, nullptr);
      bool handles = handler != SIG_DFL;
      kill(getpid(), SIGUSR2);
      EXPECT_EQ(Restarts(poll), !handles);
      mask_ = SignalBit(SIGUSR2);
      EXPECT_TRUE(Restarts(poll)) << "it is blocked outside of the tick";
      mask_ = 0;
      ShowRestarted(SYS_read);
      EXPECT_FALSE(RestartInterruptedCall(&context_));
      EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], handles && flags == 0 ? -EINTR : SYS_read);
      EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc_ + (handles && flags == 0 ? 2 : 0));
      uint64_t bit = SignalBit(SIGUSR2);
      struct timespec no_time = {};
      ASSERT_EQ(RawSyscall(SYS_rt_sigtimedwait, &bit, nullptr, &no_time, sizeof bit), SIGUSR2);
      EXPECT_TRUE(Restarts(poll)) << "none is pending";
    }
  }
}

TEST_F(InterruptedCallTest, AFutexWaitBeginsAgain) {
  std::vector<int> futex = {0xb8, SYS_futex, 0, 0, 0, 0x0f, 0x05};
  second_ = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;
  EXPECT_TRUE(Restarts(futex));
  second_ = FUTEX_WAKE;
  EXPECT_FALSE(Restarts(futex));
}

TEST_F(InterruptedCallTest, NothingIsReadBeforeAPageThatMayBeTheFirst) {
  mprotect(page_, 4096, PROT_READ | PROT_WRITE);
  memset(page_, 0x90, 8192);
  page_[4096] = 0x0f;
  page_[4097] = 0x05;
  mprotect(page_, 4096, PROT_NONE);
  context_ = {};
  context_.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(page_ + 4098);
  context_.uc_mcontext.gregs[REG_RAX] = -EINTR;
  EXPECT_FALSE(RestartInterruptedCall(&context_));
}

// Ubuntu 24.04's epoll_wait makes its call there.
TEST_F(InterruptedCallTest, TheNumberMayStandInThePageBefore) {
  for (size_t place : {4096, 4097, 4098, 4102, 4107}) {
    ASSERT_TRUE(Restarts({0xb8, SYS_epoll_wait & 0xff, 0, 0, 0, 0x0f, 0x05}, -EINTR, place)) << place;
    EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc_ - 2);
    EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], SYS_epoll_wait);
  }
}

// What the kernel restarts for our handler, and would have ended for the application's.
TEST_F(InterruptedCallTest, ARestartedCallEnds) {
  auto ends = [this](long number, long second = 0, greg_t behind = 2) {
    ShowRestarted(number, second, behind);
    return EndRestartedCall(&context_);
  };
  ASSERT_TRUE(ends(SYS_read));
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RIP], pc_ + 2);
  EXPECT_EQ(context_.uc_mcontext.gregs[REG_RAX], -EINTR);
  EXPECT_FALSE(ends(SYS_read, 0, 0)) << "it was not made yet";
  EXPECT_FALSE(ends(SYS_close)) << "never ends so";
  EXPECT_TRUE(ends(SYS_fcntl, F_SETLKW));
  EXPECT_FALSE(ends(SYS_fcntl, F_SETLK));
  EXPECT_TRUE(ends(SYS_futex, 0x80));  // FUTEX_WAIT_PRIVATE
  EXPECT_FALSE(ends(SYS_futex, 0x81)) << "FUTEX_WAKE_PRIVATE";
}

// The libc of this machine: without the restart each of these waits ends with EINTR at the first signal.
TEST(InterruptedCall, WaitsOfLibcOutlastTheSignal) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer runs handlers later, when the call has already ended";
#endif
  static std::atomic<int> restarted;
  struct sigaction action = {};
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    restarted += RestartInterruptedCall(static_cast<ucontext_t*>(context));
  };
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  int epoll = epoll_create1(0);
  struct epoll_event event;
  sigset_t empty;
  sigemptyset(&empty);
  struct Wait {
    const char* name;
    int (*call)(int epoll, struct epoll_event* event, const sigset_t* empty);
  } waits[] = {
      {"poll", [](int, struct epoll_event*, const sigset_t*) { return poll(nullptr, 0, 100); }},
      {"ppoll",
       [](int, struct epoll_event*, const sigset_t* empty) {
         struct timespec time = {0, 100'000'000};
         return ppoll(nullptr, 0, &time, empty);
       }},
      {"select",
       [](int, struct epoll_event*, const sigset_t*) {
         struct timeval time = {0, 100'000};
         return select(0, nullptr, nullptr, nullptr, &time);
       }},
      {"pselect",
       [](int, struct epoll_event*, const sigset_t* empty) {
         struct timespec time = {0, 100'000'000};
         return pselect(0, nullptr, nullptr, nullptr, &time, empty);
       }},
      {"epoll_wait", [](int epoll, struct epoll_event* event,
                        const sigset_t*) { return epoll_wait(epoll, event, 1, 100); }},
      {"epoll_pwait", [](int epoll, struct epoll_event* event,
                         const sigset_t* empty) { return epoll_pwait(epoll, event, 1, 100, empty); }},
      {"nanosleep",
       [](int, struct epoll_event*, const sigset_t*) {
         struct timespec time = {0, 100'000'000};
         return nanosleep(&time, nullptr);
       }},
      {"usleep", [](int, struct epoll_event*, const sigset_t*) { return usleep(100'000); }},
  };
  for (bool threaded : {false, true}) {  // libc has two paths for each, around cancellation
    for (const Wait& wait : waits) {
      pid_t waiter = gettid();
      restarted = 0;
      auto interrupt = [waiter] {
        for (int i = 0; i < 4; ++i) {
          usleep(3000);
          syscall(SYS_tgkill, getpid(), waiter, SIGUSR1);
        }
      };
      int result = -1;
      if (threaded) {
        std::thread other(interrupt);
        result = wait.call(epoll, &event, &empty);
        other.join();
      } else {
        // A child does it, so that libc sees one thread.
        pid_t parent = getpid();
        pid_t child = fork();
        if (child == 0) {
          for (int i = 0; i < 4; ++i) {
            usleep(3000);
            kill(parent, SIGUSR1);
          }
          _exit(0);
        }
        result = wait.call(epoll, &event, &empty);
        while (waitpid(child, nullptr, 0) != child) {
        }
      }
      EXPECT_EQ(result, 0) << wait.name << ": " << strerror(errno);
      EXPECT_GT(restarted, 0) << wait.name;
    }
  }
  close(epoll);
  signal(SIGUSR1, SIG_DFL);
}

void Throw(int) { throw 1; }
void DoNothing(int) {}

KernelSigaction ReturningOurWay(void (*handler)(int)) {
  constexpr uint64_t kSaRestorer = 0x04000000;
  return {reinterpret_cast<uintptr_t>(handler), kSaRestorer | SA_NODEFER, HandlerReturn(), 0};
}

// With the callee-saved registers that raise() had: what is read after the catch was in one, or on the stack.
TEST(HandlerReturn, HandlersReturnAndAreUnwound) {
  int (*volatile send)(int) = raise;  // not known to throw nothing
  for (bool throws : {false, true}) {
    KernelSigaction action = ReturningOurWay(throws ? Throw : DoNothing);
    ASSERT_EQ(RawSyscall(SYS_rt_sigaction, SIGUSR1, &action, nullptr, sizeof action.mask), 0);
    int caught = 0;
    try {
      send(SIGUSR1);
    } catch (int value) {
      caught = value;
    }
    EXPECT_EQ(caught, throws ? 1 : 0);
  }
  signal(SIGUSR1, SIG_DFL);
}

// A signal that the handler's mask holds up meets the thread where the handler returns to.
TEST(HandlerReturn, WhatComesBehindAHandlerThatEndedACallIsTold) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer runs handlers later";
#endif
  static bool came_from_handler;
  KernelSigaction first = ReturningOurWay([](int) { raise(SIGUSR2); });
  first.mask = SignalBit(SIGUSR2);
  ASSERT_EQ(RawSyscall(SYS_rt_sigaction, SIGALRM, &first, nullptr, sizeof first.mask), 0);
  struct sigaction second = {};
  second.sa_sigaction = [](int, siginfo_t*, void* context) {
    came_from_handler = CameFromHandler(*static_cast<ucontext_t*>(context));
  };
  second.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR2, &second, nullptr);
  ualarm(10'000, 0);
  EXPECT_EQ(poll(nullptr, 0, 60'000), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_TRUE(came_from_handler);
  raise(SIGUSR2);
  EXPECT_FALSE(came_from_handler);
  signal(SIGALRM, SIG_DFL);
  signal(SIGUSR2, SIG_DFL);
}

}  // namespace
}  // namespace profagent
