// Our walk beside libunwind's at every single instruction of real code: prologues, epilogues, libc's assembly, PLT
// stubs, the loader's lazy binding. A sample can hit any of them.
//
// How: the trap flag raises SIGTRAP after each instruction; the handler walks the interrupted stack with both. It
//      runs without the flag.
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#include <sched.h>
#include <time.h>

#include "tests/unit/unwind/unwind_fixture.h"

// With unwind information of their own: inline, the push would be unknown to their caller's.
extern "C" void StartStepping();
extern "C" void StopStepping();
asm(R"(
.text
.type StartStepping, @function
StartStepping:
  .cfi_startproc
  pushfq
  .cfi_adjust_cfa_offset 8
  orq $0x100, (%rsp)
  popfq
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.size StartStepping, . - StartStepping
.type StopStepping, @function
StopStepping:
  .cfi_startproc
  pushfq
  .cfi_adjust_cfa_offset 8
  andq $~0x100, (%rsp)
  popfq
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.size StopStepping, . - StopStepping
)");

namespace profagent {
namespace {

class SingleStep : public UnwindFixture {
 protected:
  void SetUp() override {
    if (!kCodeAsWritten) GTEST_SKIP() << "most steps would be the sanitizer's own";
    UnwindFixture::SetUp();
    library_ = dlopen(STEPPED_LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
    unw_set_caching_policy(unw_local_addr_space, UNW_CACHE_NONE);
  }
  void TearDown() override {
    if (!kCodeAsWritten) return;
    dlclose(library_);
    UnwindFixture::TearDown();
  }

  template <class Function>
  Function Find(const char* name) {
    return reinterpret_cast<Function>(dlsym(library_, name));
  }

  template <class Body>
  void Step(Body body) {
    steps_ = differences_ = unfinished_ = 0;
    bounds_ = OwnStackBounds();
    frames_.assign(kMaxDepthLimit, Frame{});
    struct sigaction action = {}, old;
    action.sa_sigaction = OnTrap;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, &old);
    StartStepping();
    body();
    StopStepping();
    sigaction(SIGTRAP, &old, nullptr);
  }

  static size_t WalkWithLibUnwind(const ucontext_t& context) {
    unw_cursor_t cursor;
    unw_context_t copy = context;
    if (unw_init_local2(&cursor, &copy, UNW_INIT_SIGNAL_FRAME) != 0) return 0;
    size_t depth = 0;
    do {
      unw_word_t pc = 0;
      unw_get_reg(&cursor, UNW_REG_IP, &pc);
      if (pc == 0) break;
      theirs_[depth] = depth == 0 || unw_is_signal_frame(&cursor) > 0 ? pc : pc - 1;
      ++depth;
    } while (depth < kMaxDepthLimit && unw_step(&cursor) > 0);
    return depth;
  }

  static void OnTrap(int, siginfo_t*, void* raw) {
    auto* self = static_cast<SingleStep*>(current_);
    auto& context = *static_cast<ucontext_t*>(raw);
    self->result_ = self->unwinder_->Walk(context, self->bounds_, self->frames_);
    size_t depth = WalkWithLibUnwind(context);
    ++self->steps_;
    if (self->result_.end != WalkEnd::kOutermost) ++self->unfinished_;
    bool equal = depth == self->result_.depth;
    for (size_t i = 0; equal && i < depth; ++i) equal = self->AddressOf(self->frames_[i]) == theirs_[i];
    if (equal) return;
    if (++self->differences_ > 3) return;
    // Names are looked up in the handler, which only a test that chose its interrupted code may do.
    for (size_t i = 0; i < depth || i < self->result_.depth; ++i) {
      Dl_info info = {};
      uintptr_t ours = i < self->result_.depth ? self->AddressOf(self->frames_[i]) : 0;
      dladdr(reinterpret_cast<void*>(ours), &info);
      printf("  %2zu ours 0x%lx (%s) libunwind 0x%lx\n", i, ours,
             info.dli_sname != nullptr ? info.dli_sname : "?", i < depth ? theirs_[i] : 0);
      if (i > 5) break;
    }
    printf("  --\n");
  }

  void ExpectAllEqual(int least_steps) {
    EXPECT_GE(steps_, least_steps);
    EXPECT_EQ(differences_, 0) << "of " << steps_;
    EXPECT_EQ(unfinished_, 0);
  }

  static inline uintptr_t theirs_[kMaxDepthLimit];
  void* library_ = nullptr;
  int steps_ = 0, differences_ = 0, unfinished_ = 0;
};

TEST_F(SingleStep, AgreesInProloguesAndEpilogues) {
  auto many = Find<int (*)(int, int, int, int (*)(int))>("ManyRegisters");
  auto leaf = Find<int (*)(int)>("Leaf");
  auto realigned = Find<int (*)(int (*)(int))>("Realigned");
  Step([&] {
    many(1, 2, 3, leaf);
    many(2, 2, 3, leaf);
    realigned(leaf);
  });
  ExpectAllEqual(100);
}

TEST_F(SingleStep, AgreesInLazyBindingAndPltStubs) {
  auto through_plt = Find<int (*)(const char*)>("ThroughPlt");
  Step([&] {
    through_plt("12345");  // binds
    through_plt("67");     // is bound
  });
  ExpectAllEqual(2000);
}

TEST_F(SingleStep, AgreesInLibcsAssembly) {
  auto work = Find<int (*)()>("LibraryWork");
  work();
  Step([&] { work(); });
  ExpectAllEqual(1000);
}

// Not clock_gettime: it begins again whenever the kernel moved its clock meanwhile, and with a walk at each
// instruction it always did on a slow machine. The test never ended.
TEST_F(SingleStep, AgreesInTheVdso) {
  time(nullptr);
  sched_getcpu();
  Step([&] {
    time(nullptr);
    sched_getcpu();
  });
  ExpectAllEqual(20);
}

}  // namespace
}  // namespace profagent
