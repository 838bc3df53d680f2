#include "agent/lifecycle/own_stack.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <iterator>

#include "agent/base/holding.h"
#include "agent/base/raw_syscall.h"
#include "agent/capture/virtual_signals.h"

// profagent_call_on_stack(work, argument, top, resume): work(argument) with the stack pointer at `top`, then false.
// The frame pointer keeps the old stack, and the CFA follows it, so a debugger (and our own unwinder) walks from the
// new stack to the old one. A handler that sets the stack pointer to what `*resume` says and the instruction pointer to
// profagent_give_work_up makes the call return true instead, whatever the work was doing.
extern "C" bool profagent_call_on_stack(void (*work)(void*), void* argument, void* top, uintptr_t* resume);
extern "C" void profagent_give_work_up();
asm(R"(
  .text
  .local profagent_call_on_stack, profagent_give_work_up
  .type profagent_call_on_stack, @function
profagent_call_on_stack:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  mov %rsp, %rbp
  .cfi_def_cfa_register %rbp
  push %rbx
  .cfi_offset %rbx, -24
  push %r12
  .cfi_offset %r12, -32
  push %r13
  .cfi_offset %r13, -40
  push %r14
  .cfi_offset %r14, -48
  push %r15
  .cfi_offset %r15, -56
  mov %rsp, (%rcx)
  mov %rdx, %rsp
  mov %rdi, %rax
  mov %rsi, %rdi
  call *%rax
  xor %eax, %eax
  lea -40(%rbp), %rsp
  jmp 1f
profagent_give_work_up:
  .cfi_def_cfa %rsp, 56
  mov $1, %eax
1:
  .cfi_def_cfa %rsp, 56
  pop %r15
  .cfi_def_cfa_offset 48
  pop %r14
  .cfi_def_cfa_offset 40
  pop %r13
  .cfi_def_cfa_offset 32
  pop %r12
  .cfi_def_cfa_offset 24
  pop %rbx
  .cfi_def_cfa_offset 16
  pop %rbp
  .cfi_def_cfa_offset 8
  ret
  .cfi_endproc
  .size profagent_call_on_stack, . - profagent_call_on_stack
)");

// The kernel's entry for a fault while work is being done.
extern "C" __attribute__((visibility("hidden"))) void profagent_fault_entry(int, siginfo_t*, void*);
extern "C" __attribute__((visibility("hidden"), used)) PROF_SIGNAL_SAFE uintptr_t
profagent_on_fault(int signo, siginfo_t* info, void* context);
PROF_ENTER_APPLICATION_HANDLER("profagent_fault_entry", "profagent_on_fault")

namespace profagent {
namespace {

// From low addresses to high: a guard page, the handler's stack, a guard page, the work's stack.
constexpr size_t kGuard = 4096;
constexpr size_t kHandlerSize = 64 * 1024;  // the kernel's frame alone has 12 KiB with AMX
constexpr size_t kWorkSize = 256 * 1024;
constexpr size_t kHandlerTop = kGuard + kHandlerSize;
constexpr size_t kWorkTop = kHandlerTop + kGuard + kWorkSize;
constexpr size_t kUsual = 48 * 1024;  // of the work's stack, what writing a profile needs

constexpr size_t kFaultCount = std::size(kFaultSignals);

}  // namespace

// A piece of work while it is being done. Lives on its caller's stack.
class OwnStack::Job {
 public:
  Job(OwnStack& stack, void (*work)(void*), void* argument)
      : stack_(stack), work_(work), argument_(argument) {}

  // False: it faulted.
  bool Run(char* top);
  PROF_SIGNAL_SAFE static uintptr_t OnSignal(int signo, siginfo_t* info, void* context);
  static void Forget() { g_thread.store(0, std::memory_order_relaxed); }

 private:
  void TakeSignals();
  void GiveSignalsBack();
  PROF_SIGNAL_SAFE bool IsOurFault(const siginfo_t& info, const ucontext_t& context) const;
  PROF_SIGNAL_SAFE void GiveUp(int signo, const siginfo_t& info, ucontext_t* context);
  PROF_SIGNAL_SAFE void Keep(int signo, const siginfo_t& info);

  OwnStack& stack_;
  void (*work_)(void*);
  void* argument_;
  uintptr_t resume_ = 0;
  bool guarded_ = false;
  uint64_t mask_ = 0;
  stack_t alternate_{};  // the application's
  struct Kept {          // what somebody sent to this thread
    bool is;
    siginfo_t info;
  } kept_[kFaultCount] = {};

  // What the handler asks first: the tid of the thread whose work is guarded, or 0. Only that thread may look at the
  // job, which is its own.
  static std::atomic<long> g_thread;
  static Job* g_job;
};

constinit std::atomic<long> OwnStack::Job::g_thread{0};
constinit OwnStack::Job* OwnStack::Job::g_job = nullptr;

bool OwnStack::Job::Run(char* top) {
  auto entry = [](void* self) {
    auto* job = static_cast<Job*>(self);
    job->TakeSignals();
    job->work_(job->argument_);
  };
  bool given_up = profagent_call_on_stack(entry, this, top, &resume_);
  GiveSignalsBack();
  return !given_up;
}

// The kernel refuses to exchange an alternate stack that is in use. So this runs on the work's stack, for the caller may
// be on the application's, and GiveSignalsBack runs on the caller's.
void OwnStack::Job::TakeSignals() {
  long none = 0;
  guarded_ = g_thread.compare_exchange_strong(none, RawSyscall(SYS_gettid), std::memory_order_relaxed);
  if (!guarded_) return;  // another OwnStack's work is: in tests only
  g_job = this;
  stack_t ours{};
  ours.ss_sp = stack_.low_ + kGuard;
  ours.ss_size = kHandlerSize;
  RawSyscall(SYS_sigaltstack, &ours, &alternate_);
  uint64_t guarded = 0;
  {
    AllSignalsBlocked blocked;
    for (int signo : kFaultSignals) {
      if (g_virtual_signals.Guard(blocked, signo, profagent_fault_entry)) guarded |= SignalBit(signo);
    }
  }
  mask_ = ChangeSignalMask(SIG_UNBLOCK, guarded);
}

void OwnStack::Job::GiveSignalsBack() {
  if (!guarded_) return;
  AllSignalsBlocked blocked;
  blocked.ThenSet(mask_);
  for (int signo : kFaultSignals) g_virtual_signals.Unguard(blocked, signo);
  Forget();
  alternate_.ss_flags &= ~SS_ONSTACK;
  RawSyscall(SYS_sigaltstack, &alternate_, nullptr);
  for (size_t i = 0; i < kFaultCount; ++i) {
    if (kept_[i].is) g_virtual_signals.PassOn(kFaultSignals[i], &kept_[i].info);
  }
}

// Raised by an instruction (not sent by kill), on our stack: in its handler's part too, where holdings are let go.
bool OwnStack::Job::IsOurFault(const siginfo_t& info, const ucontext_t& context) const {
  auto stack_pointer = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
  return info.si_code > 0 && stack_pointer - reinterpret_cast<uintptr_t>(stack_.low_) <= kWorkTop;
}

void OwnStack::Job::GiveUp(int signo, const siginfo_t& info, ucontext_t* context) {
  constexpr greg_t kDirectionFlag = 0x400;  // clear at every function's entry, by the ABI
  greg_t* registers = context->uc_mcontext.gregs;
  stack_.fault_ = {signo, reinterpret_cast<uintptr_t>(info.si_addr),
                   static_cast<uintptr_t>(registers[REG_RIP])};
  registers[REG_EFL] &= ~kDirectionFlag;
  registers[REG_RSP] = static_cast<greg_t>(resume_);
  registers[REG_RIP] = reinterpret_cast<greg_t>(profagent_give_work_up);
}

void OwnStack::Job::Keep(int signo, const siginfo_t& info) {
  for (size_t i = 0; i < kFaultCount; ++i) {
    if (kFaultSignals[i] == signo && !kept_[i].is) kept_[i] = {true, info};
  }
}

uintptr_t OwnStack::Job::OnSignal(int signo, siginfo_t* info, void* context) {
  auto* interrupted = static_cast<ucontext_t*>(context);
  if (g_thread.load(std::memory_order_relaxed) != RawSyscall(SYS_gettid)) {
    return g_virtual_signals.LeaveToOthers(signo, info, context, info->si_code > 0);
  }
  if (g_job->IsOurFault(*info, *interrupted)) {
    g_job->GiveUp(signo, *info, interrupted);
  } else {
    g_job->Keep(signo, *info);
  }
  return 0;
}

void OwnStack::Prepare() {
  if (low_ != nullptr) return;
  long memory = RawSyscall(SYS_mmap, nullptr, kWorkTop, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (SyscallError(memory) != 0) return;
  RawSyscall(SYS_mprotect, memory, kGuard, PROT_NONE);
  RawSyscall(SYS_mprotect, memory + static_cast<long>(kHandlerTop), kGuard, PROT_NONE);
  low_ = reinterpret_cast<char*>(memory);
}

OwnStack::Outcome OwnStack::RunGuarded(void (*work)(void*), void* argument) {
  Holdings holdings;
  // One system call for what would be a page fault for each 4 KiB. Where it fails, those come.
  RawSyscall(SYS_madvise, low_ + (kWorkTop - kUsual), kUsual, MADV_POPULATE_WRITE);
  if (Job(*this, work, argument).Run(low_ + kWorkTop)) return Outcome::kDone;
  failed_ = true;
  Fault first = fault_;
  // Their owners stand on the stack that was left, so this runs on the other one. It is guarded too: what was
  // overwritten may fault again, and then the rest stays with the process.
  auto let_go = [](void* all) { static_cast<Holdings*>(all)->LetAllGo(); };
  Job(*this, let_go, &holdings).Run(low_ + kHandlerTop);
  fault_ = first;
  return Outcome::kFaulted;
}

OwnStack::Outcome OwnStack::Run(void (*work)(void*), void* argument) {
  if (busy_.exchange(true, std::memory_order_seq_cst)) return Outcome::kRefused;
  Outcome outcome = Outcome::kDone;
  if (failed_) {
    outcome = Outcome::kRefused;
  } else if (low_ != nullptr) {
    outcome = RunGuarded(work, argument);
  } else {
    work(argument);
  }
  busy_.store(false, std::memory_order_seq_cst);
  return outcome;
}

void OwnStack::Forget() {
  Job::Forget();
  Holdings::Forget();
  busy_.store(false, std::memory_order_relaxed);
}

}  // namespace profagent

uintptr_t profagent_on_fault(int signo, siginfo_t* info, void* context) {
  return profagent::OwnStack::Job::OnSignal(signo, info, context);
}
