#include "agent/lifecycle/own_stack.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>

#include "agent/base/arena.h"
#include "agent/base/raw_syscall.h"
#include "agent/capture/virtual_signals.h"
#include "tests/unit/sanitized.h"

namespace profagent {
namespace {

using Outcome = OwnStack::Outcome;

uintptr_t StackPointer() { return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); }

struct Seen {
  OwnStack* stack;
  uintptr_t at = 0;
  Outcome nested = Outcome::kDone;
};

// The program's alternate stack may have 8 KiB: encoding there would run over its neighbours.
TEST(OwnStack, RunsTheWorkElsewhereAndComesBack) {
  OwnStack stack;
  stack.Prepare();
  Seen seen{&stack};
  uintptr_t here = StackPointer();
  ASSERT_EQ(stack.Run(
                [](void* argument) {
                  volatile char room[128 * 1024];
                  std::memset(const_cast<char*>(room), 1, sizeof room);
                  static_cast<Seen*>(argument)->at = StackPointer() + static_cast<uintptr_t>(room[5] - 1);
                },
                &seen),
            Outcome::kDone);
  EXPECT_GT(seen.at > here ? seen.at - here : here - seen.at, uintptr_t{64 * 1024});
}

// Two threads that die at once would encode on one stack.
TEST(OwnStack, RefusesWorkFromInsideItsWork) {
  OwnStack stack;
  stack.Prepare();
  Seen seen{&stack};
  stack.Run(
      [](void* argument) {
        auto* seen = static_cast<Seen*>(argument);
        seen->nested = seen->stack->Run([](void*) {}, nullptr);
      },
      &seen);
  EXPECT_EQ(seen.nested, Outcome::kRefused);
  EXPECT_EQ(stack.Run([](void*) {}, nullptr), Outcome::kDone);
}

// A dump signal that met the end of another dump was left to its writer, who had looked for requests before his giving the stack
// back was to be seen, and was forgotten.
TEST(OwnStack, WhoLeavesItSeesWhatTheRefusedAskedFor) {
  OwnStack stack;
  constexpr int kRounds = 200'000;
  std::atomic<int> round{0}, answer{0};
  std::atomic<bool> request{false};
  auto wait_for = [](const std::atomic<int>& number, int least) {
    for (int looks = 0; number.load() < least; ++looks) {
      if (looks > 1000) sched_yield();
    }
  };
  std::thread other([&] {
    for (int i = 1; i <= kRounds; ++i) {
      wait_for(round, i);
      for (volatile int wait = i % 32; wait > 0;) wait = wait - 1;
      request.store(true);
      bool refused = stack.Run([](void*) {}, nullptr) == Outcome::kRefused;
      answer.store(2 * i + (refused ? 1 : 0));
    }
  });
  int forgotten = 0;
  for (int i = 1; i <= kRounds; ++i) {
    request.store(false);
    while (stack.Run([](void* number) { ++*static_cast<std::atomic<int>*>(number); }, &round) !=
           Outcome::kDone) {
    }
    bool seen = request.load();
    wait_for(answer, 2 * i);
    if (answer.load() == 2 * i + 1 && !seen) ++forgotten;
  }
  other.join();
  EXPECT_EQ(forgotten, 0);
}

// --- work that faults

using testing::kSanitized;  // its runtime handles faults itself, and knows nothing of stacks that are left

KernelSigaction InKernel(int signo) {
  KernelSigaction action;
  RawSyscall(SYS_rt_sigaction, signo, nullptr, &action, sizeof(uint64_t));
  return action;
}

bool operator==(const KernelSigaction& a, const KernelSigaction& b) {
  return a.handler == b.handler && a.flags == b.flags && a.restorer == b.restorer && a.mask == b.mask;
}

void* volatile const kNowhere = reinterpret_cast<void*>(16);  // volatile: the compiler must not know better

void ReadNowhere(void*) { *static_cast<volatile int*>(kNowhere); }

class FaultingWork : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "the sanitizer's runtime takes these signals";
    stack_.Prepare();
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask_, sizeof mask_);
  }
  void TearDown() override {
    if (kSanitized) return;
    uint64_t mask = 0;
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, sizeof mask);
    EXPECT_EQ(mask, mask_);
    for (int signo : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(signo, SIG_DFL);
  }

  OwnStack stack_;
  uint64_t mask_ = 0;
};

// A damaged ledger or a bug of ours killed the program in its exit, and took its exit status away.
TEST_F(FaultingWork, IsGivenUpAndNothingElse) {
  EXPECT_EQ(stack_.Run(ReadNowhere, nullptr), Outcome::kFaulted);
  EXPECT_EQ(stack_.fault().signo, SIGSEGV);
  EXPECT_EQ(stack_.fault().address, reinterpret_cast<uintptr_t>(kNowhere));
  EXPECT_LT(stack_.fault().instruction - reinterpret_cast<uintptr_t>(&ReadNowhere), 64u);
}

TEST_F(FaultingWork, IsGivenUpWhenItUsesUpTheStack) {
  static void (*volatile deeper)(int) = nullptr;
  deeper = [](int depth) {
    volatile char room[1024];
    room[0] = static_cast<char>(depth);
    deeper(depth + room[0]);
    room[1] = 1;
  };
  EXPECT_EQ(stack_.Run([](void*) { deeper(1); }, nullptr), Outcome::kFaulted);
}

TEST_F(FaultingWork, IsGivenUpForADivisionByZeroToo) {
  static volatile int zero = 0;
  EXPECT_EQ(stack_.Run([](void*) { zero = 1000 / zero; }, nullptr), Outcome::kFaulted);
  EXPECT_EQ(stack_.fault().signo, SIGFPE);
}

// Every later dump would fail again, at the same place, perhaps with worse luck.
TEST_F(FaultingWork, IsTheLastWorkOfTheStack) {
  ASSERT_EQ(stack_.Run(ReadNowhere, nullptr), Outcome::kFaulted);
  EXPECT_EQ(stack_.Run([](void*) { ADD_FAILURE(); }, nullptr), Outcome::kRefused);
}

// Registers that a caller may rely on are the caller's again, though the work was left in its middle.
TEST_F(FaultingWork, LeavesTheCallersRegisters) {
  register uint64_t rbx asm("rbx") = 1;
  register uint64_t r12 asm("r12") = 2;
  register uint64_t r15 asm("r15") = 3;
  asm volatile("" : "+r"(rbx), "+r"(r12), "+r"(r15));
  Outcome outcome = stack_.Run(
      [](void*) {
        asm volatile("xor %%ebx, %%ebx; xor %%r12d, %%r12d; xor %%r15d, %%r15d; std; mov 16, %%eax" ::
                         : "rax", "rbx", "r12", "r15");
      },
      nullptr);
  uint64_t flags = 0;
  asm volatile("pushfq; popq %0" : "=r"(flags));
  asm volatile("" : "+r"(rbx), "+r"(r12), "+r"(r15));
  EXPECT_EQ(outcome, Outcome::kFaulted);
  EXPECT_EQ(rbx + r12 + r15, 6u);
  EXPECT_EQ(flags & 0x400, 0u);
}

// After a failed dump the program runs on for days: no descriptor, no memory may be missing.
TEST_F(FaultingWork, LetsGoWhatItHeld) {
  static int freed_in_order = 0;
  struct Held : private Holding {
    explicit Held(int number)
        : Holding([](Holding* self) { static_cast<Held*>(self)->Free(); }), number_(number) {}
    void Free() { freed_in_order = freed_in_order * 10 + number_; }
    int number_;
  };
  static void* block = nullptr;
  freed_in_order = 0;
  EXPECT_EQ(stack_.Run(
                [](void* nowhere) {
                  Held one(1);
                  { Held done(9); }
                  Arena arena;
                  block = arena.Allocate(100);
                  Held two(2);
                  ReadNowhere(nowhere);
                },
                nullptr),
            Outcome::kFaulted);
  EXPECT_EQ(freed_in_order, 21);
  ASSERT_NE(block, nullptr);
  auto page = reinterpret_cast<uintptr_t>(block) & ~uintptr_t{4095};
  EXPECT_NE(RawSyscall(SYS_madvise, page, 4096, MADV_NORMAL), 0) << "the arena's memory is still mapped";
}

// What is broken may be the list of what was held.
TEST_F(FaultingWork, MayFaultAgainWhileItLetsGo) {
  struct Broken : private Holding {
    Broken() : Holding([](Holding*) { ReadNowhere(nullptr); }) {}
  };
  EXPECT_EQ(stack_.Run(
                [](void*) {
                  Broken broken;
                  asm volatile("ud2");
                },
                nullptr),
            Outcome::kFaulted);
  EXPECT_EQ(stack_.fault().signo, SIGILL) << "the first one is the one to look into";
}

// --- and what the application sees of it: nothing

struct sigaction HandlerWith(void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaddset(&action.sa_mask, SIGUSR1);
  return action;
}

TEST_F(FaultingWork, LeavesTheActionsAndTheAlternateStackAsTheyWere) {
  static char memory[64 * 1024];
  stack_t mine = {memory, 0, sizeof memory};
  ASSERT_EQ(sigaltstack(&mine, nullptr), 0);
  struct sigaction action = HandlerWith([](int, siginfo_t*, void*) {}, SA_RESETHAND | SA_NODEFER);
  ASSERT_EQ(sigaction(SIGSEGV, &action, nullptr), 0);
  signal(SIGBUS, SIG_IGN);
  KernelSigaction segv = InKernel(SIGSEGV);
  KernelSigaction bus = InKernel(SIGBUS);
  KernelSigaction ill = InKernel(SIGILL);
  ASSERT_EQ(stack_.Run(ReadNowhere, nullptr), Outcome::kFaulted);
  EXPECT_TRUE(InKernel(SIGSEGV) == segv);
  EXPECT_TRUE(InKernel(SIGBUS) == bus);
  EXPECT_TRUE(InKernel(SIGILL) == ill);
  stack_t now = {};
  sigaltstack(nullptr, &now);
  EXPECT_EQ(now.ss_sp, mine.ss_sp);
  EXPECT_EQ(now.ss_size, mine.ss_size);
  EXPECT_EQ(now.ss_flags, 0);
  mine.ss_flags = SS_DISABLE;
  sigaltstack(&mine, nullptr);
}

// A fatal signal's handler of ours runs on the application's alternate stack, and from there the profile is written: a
// fault must not be handled on top of the frames that lie there.
TEST_F(FaultingWork, IsGivenUpOnTheAlternateStackToo) {
  static char memory[64 * 1024];
  static OwnStack* stack = nullptr;
  static Outcome outcome;
  static bool intact;
  stack = &stack_;
  stack_t mine = {memory, 0, sizeof memory};
  ASSERT_EQ(sigaltstack(&mine, nullptr), 0);
  struct sigaction action = HandlerWith(
      [](int, siginfo_t*, void*) {
        volatile uint64_t frame[64];
        for (auto& word : frame) word = 0x5a5a5a5a;
        outcome = stack->Run(ReadNowhere, nullptr);
        intact = true;
        for (auto& word : frame) intact = intact && word == 0x5a5a5a5a;
        stack_t now = {};
        sigaltstack(nullptr, &now);
        intact = intact && now.ss_sp == memory && now.ss_flags == SS_ONSTACK;
      },
      SA_ONSTACK);
  ASSERT_EQ(sigaction(SIGUSR2, &action, nullptr), 0);
  raise(SIGUSR2);
  EXPECT_EQ(outcome, Outcome::kFaulted);
  EXPECT_TRUE(intact);
  signal(SIGUSR2, SIG_DFL);
  mine.ss_flags = SS_DISABLE;
  sigaltstack(&mine, nullptr);
}

// kill -SEGV of the process during a dump: no fault of ours. It must not be lost, nor end the dump.
TEST_F(FaultingWork, IsNotWhatSomebodySent) {
  static std::atomic<int> came{0};
  static std::atomic<bool> over{false};
  struct sigaction action =
      HandlerWith([](int, siginfo_t* info, void*) { came += over ? info->si_code : 1000; }, 0);
  ASSERT_EQ(sigaction(SIGSEGV, &action, nullptr), 0);
  EXPECT_EQ(stack_.Run(
                [](void*) {
                  raise(SIGSEGV);
                  over = true;
                },
                nullptr),
            Outcome::kDone);
  EXPECT_EQ(came, SI_TKILL);
}

// A collector or a database that lives by its SIGSEGV handler, in another thread, while a dump is written.
struct OtherThread {
  static constexpr size_t kPage = 4096;
  static inline std::atomic<int> handled{0};
  static inline std::atomic<bool> on_alternate_stack{false};
  static inline std::atomic<bool> usr1_masked{false};
  static inline char* volatile page = nullptr;
  static inline char alternate[64 * 1024];

  static void Handle(int, siginfo_t* info, void*) {
    auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    on_alternate_stack = here - reinterpret_cast<uintptr_t>(alternate) < sizeof alternate;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    usr1_masked = sigismember(&mask, SIGUSR1) == 1;
    if (info->si_addr == page) mprotect(page, kPage, PROT_READ | PROT_WRITE);
    ++handled;
  }
  // Faults, and goes on.
  static void Work() {
    stack_t mine = {alternate, 0, sizeof alternate};
    sigaltstack(&mine, nullptr);
    mprotect(page, kPage, PROT_NONE);
    *page = 1;
    mine.ss_flags = SS_DISABLE;
    sigaltstack(&mine, nullptr);
  }
};

class FaultElsewhere : public FaultingWork, public ::testing::WithParamInterface<int> {};

TEST_P(FaultElsewhere, ReachesTheApplicationsHandlerOnItsOwnStack) {
  void* memory = mmap(nullptr, OtherThread::kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  OtherThread::page = static_cast<char*>(memory);
  OtherThread::handled = 0;
  struct sigaction action = HandlerWith(OtherThread::Handle, GetParam());
  ASSERT_EQ(sigaction(SIGSEGV, &action, nullptr), 0);
  KernelSigaction before = InKernel(SIGSEGV);
  EXPECT_EQ(stack_.Run([](void*) { std::thread(OtherThread::Work).join(); }, nullptr), Outcome::kDone);
  EXPECT_EQ(OtherThread::handled, 1);
  EXPECT_EQ(OtherThread::on_alternate_stack, (GetParam() & SA_ONSTACK) != 0);
  EXPECT_TRUE(OtherThread::usr1_masked);
  if ((GetParam() & SA_RESETHAND) != 0) {
    EXPECT_TRUE(InKernel(SIGSEGV).is_default());
  } else {
    EXPECT_TRUE(InKernel(SIGSEGV) == before);
  }
  munmap(memory, OtherThread::kPage);
}
INSTANTIATE_TEST_SUITE_P(WithFlags, FaultElsewhere,
                         ::testing::Values(0, SA_ONSTACK, SA_NODEFER, SA_ONSTACK | SA_RESETHAND));

// A handler that is set meanwhile was overwritten when the agent put back what it had found.
TEST_F(FaultingWork, KeepsAnActionThatIsSetMeanwhile) {
  static KernelSigaction wanted;
  wanted = {reinterpret_cast<uintptr_t>(&OtherThread::Handle), SA_SIGINFO | SA_NODEFER, 0,
            SignalBit(SIGUSR2)};
  ASSERT_EQ(stack_.Run(
                [](void* nowhere) {
                  g_virtual_signals.Exchange(SIGSEGV, &wanted, nullptr);
                  ReadNowhere(nowhere);
                },
                nullptr),
            Outcome::kFaulted);
  KernelSigaction now = InKernel(SIGSEGV);
  EXPECT_EQ(now.handler, wanted.handler);
  EXPECT_EQ(now.flags & (SA_SIGINFO | SA_NODEFER), wanted.flags);
  EXPECT_EQ(now.mask, wanted.mask);
}

// A crash of the program in another thread stays a crash.
TEST_F(FaultingWork, DoesNotSaveTheProgramFromItsOwnFault) {
  EXPECT_EXIT(stack_.Run([](void*) { std::thread([] { ReadNowhere(nullptr); }).join(); }, nullptr),
              ::testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_IGN);
        stack_.Run([](void*) { std::thread([] { ReadNowhere(nullptr); }).join(); }, nullptr);
      },
      ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace profagent
