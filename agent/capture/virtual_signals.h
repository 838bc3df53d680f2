// Signals that the agent handles while the application believes that it alone does.
//
// Context:   Take in `bootstrap`; Exchange in `hook` (agent/interpose/signal_action_hooks.cc calls it for
//            sigaction and its relatives, also from the application's own handlers); NextHandler and PassOn in
//            `signal`; queries anywhere.
// Invariant: the kernel holds the agent's handler whenever the agent needs it, and the application is told
//            the action that it set itself.
//   kAlways        (the CPU signal) The kernel holds ours whatever the application sets. What is not ours
//                  goes on to the application's action, see NextHandler.
//   kWhileDefault  (SIGTERM, SIGSEGV, ...) The kernel holds ours only while the application's action is
//                  SIG_DFL: the profile is written before the process dies. A handler or SIG_IGN of the
//                  application's goes to the kernel as it is, and costs nothing.
//   kGuarded       (SIGSEGV, ... while the agent does work that may fault) As kAlways, for a short time, on top
//                  of one of the others.
//   kLeftBehind    (after Retreat) The application's action is SIG_DFL, the kernel holds ours still, which does nothing
//                  any more. The application's next action goes to the kernel as it is, by one system call.
// vfork:     the child has this memory, but dispositions of its own: what it sets and asks goes between it and the kernel.
// Locks:     one spin lock a signal, held with every signal blocked, so that no handler can wait for its own
//            thread. fork: the child calls ResetAfterFork, since another thread may have held one.
#pragma once

#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

// The kernel's struct sigaction (libc's has another order and a larger mask).
struct KernelSigaction {
  uintptr_t handler = 0;  // 0: SIG_DFL, 1: SIG_IGN
  uint64_t flags = 0;
  uintptr_t restorer = 0;
  uint64_t mask = 0;  // bit signo - 1

  constexpr bool is_default() const { return handler == 0; }
  constexpr bool is_ignored() const { return handler == 1; }
};
static_assert(sizeof(KernelSigaction) == 32);

// Raised by the instruction at which a thread is; sent by others, too.
inline constexpr int kFaultSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

// What the kernel does of such an action is nothing at all.
constexpr bool IgnoresSignal(int signo, const KernelSigaction& action) {
  bool harmless = signo == SIGCHLD || signo == SIGCONT || signo == SIGURG || signo == SIGWINCH;
  return action.is_ignored() || (harmless && action.is_default());
}

constexpr uint64_t SignalBit(int signo) { return uint64_t{1} << (signo - 1); }
inline constexpr uint64_t kAllSignals = ~uint64_t{0};

// Sets this thread's mask, bypassing every hook and libc's own exceptions; returns the one before.
PROF_SIGNAL_SAFE uint64_t SetSignalMask(uint64_t mask);
PROF_SIGNAL_SAFE uint64_t ChangeSignalMask(int how, uint64_t mask);  // SIG_BLOCK, SIG_UNBLOCK

// Every signal blocked for this thread as long as it lives. A parameter of this type: the caller blocks them, once for
// many signals.
class AllSignalsBlocked {
 public:
  PROF_ALWAYS_INLINE AllSignalsBlocked() : before_(SetSignalMask(kAllSignals)) {}
  PROF_ALWAYS_INLINE ~AllSignalsBlocked() { SetSignalMask(before_); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

  void ThenSet(uint64_t mask) { before_ = mask; }  // instead of the mask before

 private:
  uint64_t before_;
};

// Defines the assembly function `entry`, a handler for the kernel that calls `decide` (with the handler's three arguments and a
// HandlerCall, in which it may change them) and, when that returns an address, jumps there: the application's handler finds stack
// and registers as the kernel left them, and what it does there (return, siglongjmp, unwind, switch stacks) is between it and the
// kernel. Otherwise it returns without a mark (handler_return.h): no handler of the application's has been. qemu's user mode enters
// handlers with a stack that is not aligned: `decide` has it aligned.
#define PROF_ENTER_APPLICATION_HANDLER(entry, decide)                          \
  asm(".pushsection prof_sigsafe,\"ax\",@progbits\n"                           \
      ".globl " entry "\n.hidden " entry "\n.type " entry ",@function\n" entry \
      ":\n"                                                                    \
      "  .cfi_startproc\n"                                                     \
      "  endbr64\n"                                                            \
      "  pushq %rbp\n"                                                         \
      "  .cfi_def_cfa_offset 16\n"                                             \
      "  .cfi_offset %rbp, -16\n"                                              \
      "  movq %rsp, %rbp\n"                                                    \
      "  .cfi_def_cfa_register %rbp\n"                                         \
      "  andq $-16, %rsp\n"                                                    \
      "  subq $48, %rsp\n"                                                     \
      "  movq %rdi, 8(%rsp)\n"                                                 \
      "  movq %rsi, 16(%rsp)\n"                                                \
      "  movq %rdx, 24(%rsp)\n"                                                \
      "  movq $0, 32(%rsp)\n"                                                  \
      "  movq %rsp, %rcx\n"                                                    \
      "  call " decide                                                         \
      "\n"                                                                     \
      "  movq 8(%rsp), %rdi\n"                                                 \
      "  movq 16(%rsp), %rsi\n"                                                \
      "  movq 24(%rsp), %rdx\n"                                                \
      "  movq 32(%rsp), %rcx\n"                                                \
      "  leave\n"                                                              \
      "  .cfi_def_cfa %rsp, 8\n"                                               \
      "  .cfi_restore %rbp\n"                                                  \
      "  movq %rax, %r11\n"                                                    \
      "  testq %rax, %rax\n"                                                   \
      "  jne 1f\n"                                                             \
      "  leaq profagent_handler_return(%rip), %rcx\n"                          \
      "  cmpq %rcx, (%rsp)\n"                                                  \
      "  jne 2f\n"                                                             \
      "  addq $8, %rsp\n"                                                      \
      "  .cfi_def_cfa_offset 0\n"                                              \
      "  jmp profagent_unmarked_return\n"                                      \
      "2:\n"                                                                   \
      "  .cfi_def_cfa_offset 8\n"                                              \
      "  ret\n"                                                                \
      "1:\n"                                                                   \
      "  testq %rcx, %rcx\n"                                                   \
      "  cmoveq %rsp, %rcx\n"                                                  \
      "  movq %rcx, %rsp\n"                                                    \
      "  xorl %eax, %eax\n"                                                    \
      "  jmp *%r11\n"                                                          \
      "  .cfi_endproc\n"                                                       \
      ".size " entry ", . - " entry "\n.popsection\n");

// As libc's functions show it, the restorer's bit included.
void ToLibc(const KernelSigaction& kernel, struct sigaction* action);

using AgentSignalHandler = void (*)(int signo, siginfo_t* info, void* context);

class VirtualSignals {
 public:
  // Somebody else's sigaction between us and libc's (libtsan, libjsig), which wraps handlers or keeps them: those of the
  // application's that need no handler of ours go by it.
  using Sigaction = int (*)(int, const struct sigaction*, struct sigaction*);
  void UseInterposer(Sigaction sigaction) { interposer_ = sigaction; }

  // Called when a handler of the application's for SIGABRT is about to return to `context`, if it was set while the signal was
  // held kWhileDefault: in its thread, on its stack.
  using AbortReturn = void (*)(const ucontext_t& context);
  void UseAbortReturn(AbortReturn function) { after_abort_handler_ = function; }
  void AfterAbortHandler(const ucontext_t& context) const { after_abort_handler_(context); }

  enum class Hold : uint8_t { kNot, kAlways, kWhileDefault, kGuarded, kLeftBehind };

  // Installs `handler` (SA_SIGINFO, SA_ONSTACK, SA_RESTART, every signal masked): now or, with kWhileDefault
  // while another action is in force, as soon as the application returns to SIG_DFL. False: the kernel
  // refused.
  // `on_other_action` is called after the application has set a handler of its own or SIG_IGN, in its thread (`hook`).
  bool Take(const AllSignalsBlocked&, int signo, AgentSignalHandler handler, Hold hold = Hold::kWhileDefault,
            void (*on_other_action)(int signo) = nullptr);
  // The kernel gets the application's action again. Not for a signal that may be on its way to us: it could
  // kill.
  void GiveBack(int signo);

  // For the time of a piece of work: the kernel holds `handler` (entered as one of Take's is), whatever the
  // application's action is or becomes; what was in force before, or what belongs there by then, comes back with
  // Unguard. False: nothing was changed, and Unguard does nothing. One work at a time.
  bool Guard(const AllSignalsBlocked&, int signo, AgentSignalHandler handler);
  PROF_SIGNAL_SAFE void Unguard(const AllSignalsBlocked&, int signo);
  // For the guarding handler, of a signal that was not for it: NextHandler's answer, exact to the stack that the
  // application's handler expects; what the agent does for a program whose action is the default; or an end of the
  // guard, so that the kernel does what is to be done when the signal comes again, which it will. `of_instruction`: the
  // interrupted instruction raised it, and will again.
  PROF_SIGNAL_SAFE uintptr_t LeaveToOthers(int signo, siginfo_t* info, void* context, bool of_instruction);

  PROF_SIGNAL_SAFE bool IsTaken(int signo) const;
  // The application's action is SIG_DFL. (A signal that was never taken: the kernel is asked.)
  bool IsDefault(int signo) const { return ApplicationAction(signo).is_default(); }
  PROF_SIGNAL_SAFE KernelSigaction ApplicationAction(int signo) const;

  // What sigaction(signo, action, old) must do and say; either may be nullptr. 0, or the kernel's -errno. For a call of libc's
  // functions, which have a restorer of libc's, the action gets ours.
  enum class Restorer : uint8_t { kOurs, kAsGiven };
  long Exchange(int signo, const KernelSigaction* action, KernelSigaction* old,
                Restorer restorer = Restorer::kOurs);

  // For a kAlways signal that was not meant for us. The address of the application's handler, which the
  // caller jumps to on the kernel's own signal frame, so that everything is as if the kernel had called it:
  // its mask is set then, SA_RESETHAND done, a system call ended that SA_RESTART was not asked for. 0: SIG_IGN or
  // SIG_DFL (`would_kill`, if that would).
  // `on_alternate_stack`, if given: whether its action has SA_ONSTACK.
  PROF_SIGNAL_SAFE uintptr_t NextHandler(int signo, void* context, bool* would_kill,
                                         bool* on_alternate_stack = nullptr);

  // For a kWhileDefault signal whose action changed while the agent's handler was on its way: queues the
  // signal again for this thread, so that the kernel gives it to the new action when the caller returns.
  PROF_SIGNAL_SAFE void PassOn(int signo, const siginfo_t* info);  // nullptr: as tgkill sends it

  // Ends the process as signal `signo` would have by default: restores SIG_DFL, sends it, waits for it.
  [[noreturn]] void DieOf(int signo);

  // The agent's handler is no longer what the kernel holds: a raw system call replaced it. Puts it back, with
  // what was found as the application's action, and says true.
  bool RepairIfReplaced(int signo);

  // For exec: an ignored signal stays ignored in the new program, and that is for the application to say.
  void ShowIgnoredToKernel(int signo);
  void TakeAgain(int signo);

  // Before a sandbox, in which no handler may make system calls: every signal is the application's own again. But for those
  // of `kept` whose default action would kill where ours swallows: they are left behind. Return: all as it was, with what the
  // application has set meanwhile.
  void Retreat(const AllSignalsBlocked&, uint64_t kept);
  void Return(const AllSignalsBlocked& blocked);
  // Between the two: no system call may be made.
  PROF_ALWAYS_INLINE bool is_retreated() const { return retreated_.load(std::memory_order_acquire); }

  void ResetAfterFork();

 private:
  struct Entry {
    std::atomic<uint32_t> locked;
    std::atomic<uint32_t> version;  // odd while `action` is being written
    std::atomic<Hold> hold;
    Hold hold_beneath;  // of a guarded one
    Hold hold_outside;  // of one that was given back by Retreat
    AgentSignalHandler guard;
    AgentSignalHandler handler;
    void (*on_other_action)(int signo);
    // The application's. Words of their own, for a reader may look while a writer is at it: then it looks again.
    std::atomic<uintptr_t> action_handler;
    std::atomic<uint64_t> action_flags;
    std::atomic<uintptr_t> action_restorer;
    std::atomic<uint64_t> action_mask;
  };
  class Locked;
  class Rewrite;

  static constexpr int kSignals = 65;
  long InstallByInterposer(int signo, const KernelSigaction& wanted) const;
  void NoteProcess();
  // This is a vfork child, or was cloned past libc.
  bool IsAnotherProcess(const Entry& entry) const;
  long ExchangeElsewhere(int signo, const KernelSigaction* wanted, KernelSigaction* old) const;
  PROF_SIGNAL_SAFE static bool IsOurs(const KernelSigaction& found, const Entry& entry);

  static bool InRange(int signo) { return signo > 0 && signo < kSignals; }
  PROF_SIGNAL_SAFE KernelSigaction Read(const Entry& entry) const;
  PROF_SIGNAL_SAFE static void Write(Entry& entry, const KernelSigaction& action);
  PROF_SIGNAL_SAFE static AgentSignalHandler OurHandler(const Entry& entry);
  PROF_SIGNAL_SAFE KernelSigaction OurAction(const Entry& entry) const;
  PROF_SIGNAL_SAFE KernelSigaction ActionFor(Hold hold, const Entry& entry,
                                             const KernelSigaction& wanted) const;

  Sigaction interposer_ = nullptr;
  AbortReturn after_abort_handler_ = nullptr;
  std::atomic<bool> retreated_{false};
  std::atomic<uint32_t> pid_{0};  // whose dispositions these are
  Entry entries_[kSignals] = {};
};

extern constinit VirtualSignals g_virtual_signals;

}  // namespace profagent
