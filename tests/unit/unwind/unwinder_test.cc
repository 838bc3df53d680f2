#include "agent/unwind/unwinder.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tests/unit/sanitized.h"
#include "tests/unit/unwind/code_in_the_wild.h"
#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

TEST_F(UnwinderTest, WalksFromASignalHandlerToTheStartOfTheProgram) {
  Capture capture = CaptureBySignal([] { raise(SIGUSR1); });
  ASSERT_GT(capture.frames.size(), 4u);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.names.back(), "_start");
}

__attribute__((noinline)) int CompareForQsort(const void* left, const void* right) {
  raise(SIGUSR1);
  return *static_cast<const int*>(left) - *static_cast<const int*>(right);
}

TEST_F(UnwinderTest, WalksThroughLibraries) {
  Capture capture = CaptureBySignal([] {
    int numbers[] = {2, 1};
    qsort(numbers, 2, sizeof(int), CompareForQsort);
  });
  EXPECT_TRUE(capture.Has("qsort_r"));  // qsort ends in a jump to it
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, EndsAtTheStartOfAThread) {
  Capture capture;
  std::thread([&] { capture = CaptureBySignal([] { raise(SIGUSR1); }); }).join();
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_FALSE(capture.Has("main"));
}

// The same stack again must come out the same, whether from the cache, from the trail or decoded.
TEST_F(UnwinderTest, GivesTheSameStackColdAndWarm) {
  std::vector<Capture> captures;
  for (int i = 0; i < 4; ++i) {
    if (i == 3) unwinder_->BeforeLibraryClose(), unwinder_->AfterLibraryClose();
    captures.push_back(CaptureBySignal([] { raise(SIGUSR1); }));
  }
  for (auto& capture : captures) {
    EXPECT_EQ(capture.names, captures[0].names);
    EXPECT_TRUE(capture.frames == captures[0].frames);
  }
}

template <int kWhich>
__attribute__((noinline)) void Recurse(int depth) {
  if (depth == 0) {
    raise(SIGUSR1);
  } else if (depth % 3 == kWhich) {
    Recurse<(kWhich + 1) % 3>(depth - 1);
  } else {
    Recurse<kWhich>(depth - 1);
  }
  asm volatile("" ::: "memory");  // no tail call
}

// The trail of one stack must never colour the walk of another that shares a part of it.
TEST_F(UnwinderTest, IsNotMisledByTheStackBefore) {
  for (int depth = 0; depth < 60; ++depth) {
    for (int shape = 0; shape < 3; ++shape) {
      auto body = [&] {
        if (shape == 0) Recurse<0>(depth);
        if (shape == 1) Recurse<1>(depth);
        if (shape == 2) Recurse<2>(depth);
      };
      Capture with_trail = CaptureBySignal(body);
      unwinder_->BeforeLibraryClose(), unwinder_->AfterLibraryClose();  // forgets cache and trail
      Capture without = CaptureBySignal(body);
      ASSERT_EQ(with_trail.end, WalkEnd::kOutermost);
      ASSERT_EQ(with_trail.names, without.names) << depth << " " << shape;
    }
  }
}

TEST_F(UnwinderTest, KeepsTheLeafSideOfADeepStack) {
  Capture capture = CaptureBySignal([] { Recurse<0>(100'000); }, true, 128);
  ASSERT_EQ(capture.frames.size(), 128u);
  EXPECT_EQ(capture.end, WalkEnd::kDepthLimit);
  EXPECT_TRUE(capture.frames.back() == MakeSynthetic(SyntheticFrame::kTruncated));
  EXPECT_TRUE(capture.Has("gsignal"));
}

TEST_F(UnwinderTest, DoesNotTruncateAStackThatJustFits) {
  Capture whole = CaptureBySignal([] { raise(SIGUSR1); });
  Capture fits = CaptureBySignal([] { raise(SIGUSR1); }, true, whole.frames.size());
  EXPECT_EQ(fits.end, WalkEnd::kOutermost);
  EXPECT_EQ(fits.frames.size(), whole.frames.size());
  Capture cut = CaptureBySignal([] { raise(SIGUSR1); }, true, whole.frames.size() - 1);
  EXPECT_EQ(cut.end, WalkEnd::kDepthLimit);
}

// A caller's return address can be the first byte of the next function.
TEST_F(UnwinderTest, NamesTheCallerOfAFunctionThatNeverReturns) {
  static jmp_buf back;
  Capture capture = CaptureBySignal([] {
    if (setjmp(back) == 0) {
      CallsAtItsEnd([] {
        raise(SIGUSR1);
        longjmp(back, 1);
      });
    }
  });
  EXPECT_TRUE(capture.Has("CallsAtItsEnd"));
  EXPECT_FALSE(capture.Has("FollowsImmediately"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, FollowsACfaInAnyCalleeSavedRegister) {
  Capture capture = CaptureBySignal([] { CfaInScratchRegister([] { raise(SIGUSR1); }); });
  EXPECT_TRUE(capture.Has("CfaInScratchRegister"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, FollowsACfaInMemory) {
  Capture capture = CaptureBySignal([] { CfaInMemory([] { raise(SIGUSR1); }); });
  EXPECT_TRUE(capture.Has("CfaInMemory"));
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

// A frame that restores registers by rbp, in front of one that is found by such a register.
TEST_F(UnwinderTest, RestoresAllRegistersOfARealignedFrame) {
  kLosesR12Calls = [] { raise(SIGUSR1); };
  Capture capture = CaptureBySignal([] { CfaInScratchRegister(LosesR12); });
  EXPECT_TRUE(capture.Has("LosesR12"));
  EXPECT_TRUE(capture.Has("CfaInScratchRegister"));
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, BelievesNoFunctionToHaveReturnedToItself) {
  Capture capture = CaptureBySignal([] { KeepsReturnAddress([] { raise(SIGUSR1); }); });
  EXPECT_EQ(std::count(capture.names.begin(), capture.names.end(), "KeepsReturnAddress"), 1);
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

// Tables that lead in a circle must not fill the stack with it.
TEST_F(UnwinderTest, LeavesACircleSoon) {
  Capture capture = CaptureBySignal([] { LoopsByFramePointer([] { raise(SIGUSR1); }); });
  EXPECT_TRUE(capture.Has("LoopsByFramePointer"));
  EXPECT_EQ(capture.end, WalkEnd::kNoProgress);
  EXPECT_LT(capture.frames.size(), 40u);
}

// --- code without unwind information

TEST_F(UnwinderTest, FollowsFramePointersWhereThereIsNoCfi) {
  Capture capture = CaptureBySignal([] { NoCfiFramed([] { raise(SIGUSR1); }); });
  EXPECT_TRUE(capture.Has("NoCfiFramed"));
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

// NoCfiFramed's step needs its rbp, which BareLeaves has saved.
TEST_F(UnwinderTest, ReadsTheEpilogueBehindACallWhereThereIsNoCfi) {
  Capture capture = CaptureBySignal([] { NoCfiFramed([] { BareLeaves([] { raise(SIGUSR1); }); }); });
  EXPECT_TRUE(capture.Has("BareLeaves"));
  EXPECT_TRUE(capture.Has("NoCfiFramed"));
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, ReadsTheReturnBehindACallWhereThereIsNoCfi) {
  Capture capture = CaptureBySignal([] { CallsBareReturns([] { raise(SIGUSR1); }); });
  EXPECT_TRUE(capture.Has("BareReturns"));
  EXPECT_TRUE(capture.Has("CallsBareReturns"));
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

TEST_F(UnwinderTest, FindsTheCallerOfALeafWithoutAFrame) {
  Capture capture = CaptureBySignal(NoCfiFrameless);
  ASSERT_EQ(capture.names[0], "NoCfiFrameless");
  EXPECT_TRUE(capture.Has("main"));
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
}

// The walk at an instruction of choice: SIGILL, then the context is moved on.
class AtInstruction : public UnwinderTest {
 public:
  Capture Walk(void (*function)(), uintptr_t pc_behind, int pushed) {
    bounds_ = OwnStackBounds();
    frames_.assign(128, Frame{});
    pc_ = pc_behind;
    pushed_ = pushed;
    struct sigaction action = {}, old;
    action.sa_sigaction = [](int, siginfo_t*, void* raw) {
      auto* self = static_cast<AtInstruction*>(current_);
      auto& context = *static_cast<ucontext_t*>(raw);
      context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(self->pc_);
      ucontext_t moved = context;
      auto sp = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
      if (self->pushed_ != 0) {  // as the push would have left it, in the red zone that is free here
        sp -= 8;
        *reinterpret_cast<greg_t*>(sp) = context.uc_mcontext.gregs[REG_RBP];
        moved.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(sp);
        moved.uc_mcontext.gregs[REG_RIP] += 1;
      }
      self->result_ = self->unwinder_->Walk(moved, self->bounds_, self->frames_);
    };
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &old);
    KnownCaller(function);
    sigaction(SIGILL, &old, nullptr);
    return Result();
  }
  // The leaf's end of the whole stack at `instruction`, decoded and from the cache.
  void ExpectStack(void (*function)(), const char* instruction, const std::vector<std::string>& leaf_first) {
    for (int i = 0; i < 2; ++i) {
      Capture capture = Walk(function, reinterpret_cast<uintptr_t>(instruction), 0);
      EXPECT_EQ(capture.end, WalkEnd::kOutermost);
      ASSERT_GT(capture.names.size(), leaf_first.size());
      capture.names.resize(leaf_first.size());
      EXPECT_EQ(capture.names, leaf_first);
    }
  }
  uintptr_t pc_ = 0;
  int pushed_ = 0;
};

TEST_F(AtInstruction, FindsTheCallerAtTheFirstInstruction) {
  Capture capture = Walk(NoCfiFirstInstruction, reinterpret_cast<uintptr_t>(kFirstInstruction), 0);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  ASSERT_GT(capture.frames.size(), 2u);
  EXPECT_EQ(capture.names[1], "KnownCaller");
}

TEST_F(AtInstruction, FindsTheCallerBehindThePush) {
  Capture capture = Walk(NoCfiFirstInstruction, reinterpret_cast<uintptr_t>(kFirstInstruction), 1);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  ASSERT_GT(capture.frames.size(), 2u);
  EXPECT_EQ(capture.names[1], "KnownCaller");
}

// The rule for it leads to a word that is no code: the instruction knows better.
TEST_F(AtInstruction, BelievesAReturnInstructionMoreThanRulesThatLeadNowhere) {
  ExpectStack(CallsWrongCfi, kWrongReturn, {"kWrongReturn", "CallsWrongCfi", "KnownCaller"});
}

// In the last instructions of a throw the return address is the landing pad, which nobody has called from.
TEST_F(AtInstruction, SeesWhereAThrowLands) {
  ExpectStack(ThrowsToLandingPad, kLanding, {"kLanding", "ThrowsToLandingPad", "KnownCaller"});
}

// JIT code: no object at all at the address.
TEST_F(UnwinderTest, WalksThroughCodeThatBelongsToNoObject) {
  // push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
  const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  ASSERT_EQ(mprotect(page, 4096, PROT_READ | PROT_EXEC), 0);
  auto jit = reinterpret_cast<void (*)(void (*)())>(page);
  Capture capture = CaptureBySignal([&] { jit([] { raise(SIGUSR1); }); });
  munmap(page, 4096);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  bool seen = false;
  for (Frame frame : capture.frames) {
    seen |= frame.module() == ModuleId::kNone && frame.offset() == reinterpret_cast<uintptr_t>(page) + 5;
  }
  EXPECT_TRUE(seen);
  EXPECT_TRUE(capture.Has("main"));
}

// --- nonsense in registers: bounds that overflow crashed a profiler on clang

TEST_F(UnwinderTest, SurvivesAnyFramePointer) {
  for (uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{8}, ~uint64_t{0}, ~uint64_t{7}, ~uint64_t{15},
                         ~uint64_t{0x7f}, uint64_t{1} << 47, uint64_t{1} << 63, uint64_t{0x7ffffffff000}}) {
    Capture capture = CaptureBySignal([=] { WithWildRegisters(value); });
    ASSERT_GE(capture.frames.size(), 1u);
    EXPECT_EQ(capture.names[0], "WithWildRegisters");
  }
}

// In a copy of the context: newer kernels end a program that returns to a stack pointer which no address can be.
TEST_F(UnwinderTest, SurvivesAnyStackPointer) {
  static uint64_t value;
  struct sigaction action = {}, old;
  action.sa_sigaction = [](int, siginfo_t*, void* raw) {
    ucontext_t moved = *static_cast<ucontext_t*>(raw);
    moved.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(value);
    current_->result_ = current_->unwinder_->Walk(moved, current_->bounds_, current_->frames_);
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, &old);
  for (uint64_t each : {uint64_t{0}, uint64_t{8}, ~uint64_t{0}, ~uint64_t{7}, ~uint64_t{0x7f},
                        uint64_t{1} << 47, uint64_t{1} << 63, uint64_t{0x7ffffffff000}}) {
    for (StackBounds bounds : {OwnStackBounds(), StackBounds{}}) {
      value = each;
      bounds_ = bounds;
      frames_.assign(kMaxDepthLimit, Frame{});
      WithWildRegisters(each);
      Capture capture = Result();
      ASSERT_GE(capture.frames.size(), 1u);
      EXPECT_EQ(capture.names[0], "WithWildRegisters");
      EXPECT_NE(capture.end, WalkEnd::kDepthLimit);
    }
  }
  sigaction(SIGUSR1, &old, nullptr);
}

TEST_F(UnwinderTest, SurvivesAnyProgramCounterAndBounds) {
  ucontext_t context = {};
  getcontext(&context);
  std::vector<Frame> frames(64);
  for (uint64_t pc :
       {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{0xffffffffff600000}, uint64_t{1} << 47}) {
    for (StackBounds bounds : {StackBounds{}, StackBounds{~uintptr_t{0}, 0},
                               StackBounds{~uintptr_t{7}, ~uintptr_t{0}}, OwnStackBounds()}) {
      context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(pc);
      WalkResult result = unwinder_->Walk(context, bounds, frames);
      EXPECT_GE(result.depth, 1u);
    }
  }
}

// --- signal frames and other stacks

TEST_F(UnwinderTest, WalksThroughASignalHandlerToWhatItInterrupted) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) { raise(SIGUSR1); };
  sigaction(SIGUSR2, &action, &old);
  Capture capture = CaptureBySignal([] { raise(SIGUSR2); });
  sigaction(SIGUSR2, &old, nullptr);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_TRUE(capture.Has("main"));
  int raised = 0;
  for (auto& name : capture.names) raised += name == "gsignal" ? 1 : 0;
  EXPECT_EQ(raised, 2);
}

TEST_F(UnwinderTest, LeavesAnAlternateStackThroughTheSignalFrame) {
  std::vector<char> alternate(1 << 16);
  stack_t stack = {.ss_sp = alternate.data(), .ss_flags = 0, .ss_size = alternate.size()}, old_stack;
  sigaltstack(&stack, &old_stack);
  struct sigaction action = {}, old;
  action.sa_handler = [](int) { raise(SIGUSR1); };
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR2, &action, &old);
  Capture capture = CaptureBySignal([] { raise(SIGUSR2); });
  sigaction(SIGUSR2, &old, nullptr);
  sigaltstack(&old_stack, nullptr);
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_TRUE(capture.Has("main"));
}

TEST_F(UnwinderTest, ReadsAStackOfUnknownBounds) {
  Capture known = CaptureBySignal([] { raise(SIGUSR1); }, true);
  Capture unknown = CaptureBySignal([] { raise(SIGUSR1); }, false);
  EXPECT_EQ(unknown.end, WalkEnd::kOutermost);
  EXPECT_EQ(unknown.names, known.names);
}

void RunAsCoroutine(void (*work)()) {
  static ucontext_t outer, inner;
  std::vector<char> stack(1 << 16);
  getcontext(&inner);
  inner.uc_stack = {.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
  inner.uc_link = &outer;
  makecontext(&inner, work, 0);
  swapcontext(&outer, &inner);
}

TEST_F(UnwinderTest, WalksACoroutineOfMakecontext) {
  Capture capture = CaptureBySignal([] { RunAsCoroutine([] { Recurse<0>(20); }); });
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_GE(capture.frames.size(), 21u);
  // __start_context, which is no exported name: the last frame is the first byte of a function.
  EXPECT_EQ(AddressOf(capture.frames.back()) % 16, 0u);
}

// The walk begins at the instructions that return from a signal handler, whose rules are as general as those of a throw.
TEST_F(UnwinderTest, EndsAtTheStartOfACoroutineFromASignalsReturn) {
  struct sigaction action = {}, old;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    ucontext_t at_return = *static_cast<ucontext_t*>(context);
    auto* frame = static_cast<uintptr_t*>(context);
    at_return.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(frame[-1]);  // what the handler returns to
    at_return.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(reinterpret_cast<uintptr_t>(frame));
    OnSignal(SIGUSR2, nullptr, &at_return);
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR2, &action, &old);
  frames_.assign(64, Frame{});
  RunAsCoroutine([] { raise(SIGUSR2); });
  sigaction(SIGUSR2, &old, nullptr);
  Capture capture = Result();
  EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  EXPECT_TRUE(capture.Has("gsignal"));
  EXPECT_EQ(AddressOf(capture.frames.back()) % 16, 0u);  // __start_context
  EXPECT_FALSE(capture.frames.back().module() == ModuleId::kNone);
}

// What a swapcontext that has changed stacks, or assembly without unwind information, leaves where a return address should be.
TEST_F(UnwinderTest, TakesNoSmallNumberForACaller) {
  static uintptr_t stack[16] = {6};
  ucontext_t context;
  getcontext(&context);
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(&KnownCaller);
  context.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(stack);
  context.uc_mcontext.gregs[REG_RBP] = 6;
  bounds_ = {};
  frames_.assign(64, Frame{});
  OnSignal(SIGUSR1, nullptr, &context);
  Capture capture = Result();
  EXPECT_EQ(capture.end, WalkEnd::kNoUnwindInfo);
  EXPECT_EQ(capture.names, std::vector<std::string>{"KnownCaller"});
}

// --- promises

// A handler can find itself on an application's alternate stack of 8 KiB.
TEST_F(UnwinderTest, NeedsNoMoreThanItsShareOfTheHandlersStack) {
  if (testing::kSanitized) GTEST_SKIP() << "a sanitizer's frames are larger than the program's";
  static char painted[64 * 1024];
  constexpr size_t kPromised = 1600;
  size_t worst = 0;
  auto measure = [&](void (*walk)()) {
    static ucontext_t outer, inner;
    memset(painted, 0x5a, sizeof painted);
    getcontext(&inner);
    inner.uc_stack = {.ss_sp = painted, .ss_flags = 0, .ss_size = sizeof painted};
    inner.uc_link = &outer;
    makecontext(&inner, walk, 0);
    swapcontext(&outer, &inner);
    size_t untouched = 0;
    while (untouched < sizeof painted && painted[untouched] == 0x5a) ++untouched;
    char* top = hook_frame_ != nullptr ? hook_frame_ : painted + sizeof painted;
    auto used = static_cast<size_t>(top - (painted + untouched));
    worst = used > worst ? used : worst;
  };
  auto measure_signal = [&](const ucontext_t& context, StackBounds bounds) {
    static const ucontext_t* walked;
    walked = &context;
    bounds_ = bounds;
    measure(
        [] { current_->result_ = current_->unwinder_->Walk(*walked, current_->bounds_, current_->frames_); });
  };
  static decltype(measure_signal)* measure_pointer;
  measure_pointer = &measure_signal;
  struct sigaction action = {}, old;
  action.sa_sigaction = [](int, siginfo_t*, void* raw) {
    auto& context = *static_cast<ucontext_t*>(raw);
    (*measure_pointer)(context, OwnStackBounds());  // cold: decodes, meets modules
    (*measure_pointer)(context, StackBounds{});     // SafeRead
    current_->unwinder_->BeforeLibraryClose(), current_->unwinder_->AfterLibraryClose();
    (*measure_pointer)(context, StackBounds{});
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, &old);
  frames_.assign(64, Frame{});
  CfaInScratchRegister([] { raise(SIGUSR1); });
  NoCfiFramed([] { raise(SIGUSR1); });
  struct sigaction nested = {}, old_nested;
  nested.sa_handler = [](int) { raise(SIGUSR1); };
  sigaction(SIGUSR2, &nested, &old_nested);
  raise(SIGUSR2);  // a signal frame: the generic step with all its expressions
  sigaction(SIGUSR2, &old_nested, nullptr);
  sigaction(SIGUSR1, &old, nullptr);
  bounds_ = {};
  unwinder_->BeforeLibraryClose(), unwinder_->AfterLibraryClose();
  measure([] { CfaInScratchRegister([] { CallsTheHook(0); }); });
  RecordProperty("stack_bytes", static_cast<int>(worst));
  printf("stack use of a walk: %zu bytes\n", worst);
  EXPECT_LE(worst, kPromised);
}

// One forbidden system call in a sandboxed program is its death. True when the walk came to the end.
bool WalksInASandbox(Unwinder* unwinder, StackBounds bounds, std::span<Frame> frames) {
  // Only read, write, exit and sigreturn from here on.
  ucontext_t context;
  getcontext(&context);
  if (syscall(SYS_prctl, 22 /* PR_SET_SECCOMP */, 1 /* strict */) != 0) syscall(SYS_exit, 77);
  return unwinder->Walk(context, bounds, frames).end == WalkEnd::kOutermost;
}

void ExpectToHaveSurvived(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(UnwinderTest, MakesNoSystemCallOnAThreadsOwnStack) {
  pid_t child = fork();
  if (child == 0) {
    Capture warm = CaptureBySignal([] { raise(SIGUSR1); });
    bounds_ = OwnStackBounds();
    frames_.assign(64, Frame{});
    syscall(SYS_exit, WalksInASandbox(unwinder_, bounds_, frames_) ? 0 : 1);
  }
  ExpectToHaveSurvived(child);
}

// Code of no object may not be there: looking at it is a system call, made once for each return address.
TEST_F(UnwinderTest, LooksAtMadeCodeOnce) {
  const unsigned char kCalls[] = {0x55, 0x48, 0x89, 0xe5,  // push %rbp; mov %rsp, %rbp
                                  0xff, 0xd7, 0x89, 0xc0,  // call *%rdi; mov %eax, %eax
                                  0x5d, 0xc3};             // pop %rbp; ret
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  memcpy(page, kCalls, sizeof kCalls);
  static void (*calls)(void (*)());
  calls = reinterpret_cast<void (*)(void (*)())>(page);
  Capture first = CaptureBySignal([] { calls([] { calls([] { raise(SIGUSR1); }); }); });
  EXPECT_EQ(
      std::ranges::count_if(first.frames, [](Frame frame) { return frame.module() == ModuleId::kNone; }), 2);
  EXPECT_TRUE(first.Has("main"));
  pid_t child = fork();
  if (child == 0) {
    bounds_ = OwnStackBounds();
    frames_.assign(64, Frame{});
    calls([] {
      calls([] {
        bool ended = WalksInASandbox(current_->unwinder_, current_->bounds_, current_->frames_);
        syscall(SYS_exit, ended ? 0 : 1);
      });
    });
  }
  ExpectToHaveSurvived(child);
  munmap(page, 4096);
}

// A coroutine's or a raw thread's chain of frame pointers ends in zeros, which is the answer, and no return address that was seen.
TEST_F(UnwinderTest, EndsAtAZeroReturnAddressOfMadeCode) {
  const unsigned char kCode[] = {0xff, 0xd7, 0x89, 0xc0,
                                 0x89, 0xc0, 0xeb, 0xfe};  // call *%rdi; mov, mov; jmp .
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  memcpy(page, kCode, sizeof kCode);
  auto code = reinterpret_cast<uintptr_t>(page);
  uintptr_t stack[8] = {};
  auto at = [&](int word) { return reinterpret_cast<uintptr_t>(&stack[word]); };
  stack[2] = at(4), stack[3] = code + 2;  // the leaf's record: the caller's, whose own at 4 is zeros
  ucontext_t context = {};
  context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(code + 4);
  context.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(at(0));
  context.uc_mcontext.gregs[REG_RBP] = static_cast<greg_t>(at(2));
  std::vector<Frame> frames(64);
  for (int i = 0; i < 2; ++i) {
    WalkResult result = unwinder_->Walk(context, {at(0), at(8)}, frames);
    EXPECT_EQ(result.depth, 2u);
    EXPECT_EQ(result.end, WalkEnd::kOutermost);
  }
  munmap(page, 4096);
}

TEST_F(UnwinderTest, GoesOnInAForkedChildWithItsOwnLedger) {
  Capture before = CaptureBySignal([] { raise(SIGUSR1); });
  pid_t child = fork();
  if (child == 0) {
    Ledger ledger;
    if (!ledger.CreateAnonymous(Bytes{kLedgerMinSize})) _exit(2);
    unwinder_->RestartAfterFork(&ledger);
    Capture after = CaptureBySignal([] { raise(SIGUSR1); });
    bool modules = ledger.header()->modules.load() != 0;
    _exit(modules && after.names == before.names ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// Without memory for its tables an unwinder still gives the leaf.
TEST(Unwinder, GivesTheLeafWhenItWasNotStarted) {
  auto* unwinder = new Unwinder();
  ucontext_t context;
  getcontext(&context);
  Frame frames[4];
  WalkResult result = unwinder->Walk(context, {}, frames);
  EXPECT_EQ(result.depth, 1u);
  EXPECT_EQ(frames[0].offset(), static_cast<uint64_t>(context.uc_mcontext.gregs[REG_RIP]));
  EXPECT_EQ(unwinder->Walk(context, {}, {}).depth, 0u);
  EXPECT_EQ(unwinder->FrameAt(CodeAddress{0x1234}), Frame::Of(ModuleId::kNone, 0x1234));
  delete unwinder;
}

}  // namespace
}  // namespace profagent
