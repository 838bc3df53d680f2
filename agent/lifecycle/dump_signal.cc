#include "agent/lifecycle/dump_signal.h"

#include <signal.h>

#include <atomic>

#include "agent/base/errno_saver.h"
#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/signal_text.h"
#include "agent/base/thread_state.h"
#include "agent/capture/interrupted_call.h"
#include "agent/capture/virtual_signals.h"
#include "agent/lifecycle/agent.h"
#include "agent/lifecycle/continued_wait.h"

namespace profagent {
namespace {

constinit DumpWriter g_writer{};
constinit std::atomic<bool> g_requested{false};
constinit std::atomic<bool> g_said{false}, g_said_ignored{false};
constinit long g_pid = 0;
constinit int g_signo = 0;  // 0: none is ours

void WriteRequested(void*) {
  while (g_requested.exchange(false, std::memory_order_acq_rel)) g_writer.write();
}

void OnDumpSignal(int signo, siginfo_t* info, void* context) {
  if (g_writer.is_over()) {  // no system call is ours any more
    RestartInterruptedCall(static_cast<ucontext_t*>(context));
    return;
  }
  if (!g_virtual_signals.IsDefault(signo)) {  // the application set a handler since the kernel chose ours
    g_virtual_signals.PassOn(signo, info);
    return;
  }
  // A vfork child shares our memory, a child of a raw clone has a copy of it, and a forked one may be left alone
  // (PROFAGENT_CHILDREN=0): no profile is theirs, and the signal does what it would have done without us.
  if (RawSyscall(SYS_getpid) != g_pid || !g_agent.ledger().IsOwn()) g_virtual_signals.DieOf(signo);
  ErrnoSaver keep_errno;
  // Not after a fault of ours: then the signal means nothing any more, and harms nobody.
  if (g_agent.active()) {
    g_requested.store(true, std::memory_order_seq_cst);
    AnswerDumpRequests();
  }
  auto* interrupted = static_cast<ucontext_t*>(context);
  if (RestartInterruptedCall(interrupted)) ContinueWait(interrupted);
}

void OnActionOfTheApplication(int signo) {
  bool ignored = g_virtual_signals.ApplicationAction(signo).is_ignored();
  if ((ignored ? g_said_ignored : g_said).exchange(true, std::memory_order_relaxed)) return;
  Log(g_writer.loud && !ignored ? Verbosity::kErrors : Verbosity::kFiles, "the program ",
      ignored ? "ignores " : "handles ", SignalText(signo).view(),
      " itself: no profile is written on it; choose another with PROFAGENT_SIGNAL");
}

}  // namespace

void StartDumpSignal(int signo, const DumpWriter& writer) {
  g_writer = writer;
  g_pid = RawSyscall(SYS_getpid);
  if (signo == 0) return;
  if (!g_virtual_signals.Take(AllSignalsBlocked(), signo, OnDumpSignal, VirtualSignals::Hold::kWhileDefault,
                              OnActionOfTheApplication)) {
    Log(Verbosity::kErrors, "no profile on a signal: the kernel refuses a handler for ",
        SignalText(signo).view());
    return;
  }
  g_signo = signo;
  if (!g_virtual_signals.IsDefault(signo)) OnActionOfTheApplication(signo);  // as who started it left it
  if ((ChangeSignalMask(SIG_BLOCK, 0) & SignalBit(signo)) != 0) {
    Log(Verbosity::kFiles, SignalText(signo).view(),
        " is blocked at the start: no profile is written on it until a thread lets it in");
  }
}

// Whoever finds the stack taken leaves its request to its owner; the owner looks after it has left, so none is forgotten.
void AnswerDumpRequests() {
  while (g_writer.stack != nullptr && g_requested.load(std::memory_order_seq_cst)) {
    OwnStack::Outcome outcome = g_writer.stack->Run(WriteRequested, nullptr);
    if (outcome == OwnStack::Outcome::kFaulted) g_writer.give_up();
    if (outcome != OwnStack::Outcome::kDone) return;
  }
}

void ForgetDumpRequests() {
  g_requested.store(false, std::memory_order_relaxed);
  g_pid = RawSyscall(SYS_getpid);
}

void HoldDumpSignal() {
  if (g_signo == 0 || t_state.dump_hold_depth++ != 0) return;
  uint64_t bit = SignalBit(g_signo);
  t_state.dump_was_blocked = (ChangeSignalMask(SIG_BLOCK, bit) & bit) != 0;
}

void ReleaseDumpSignal() {
  if (t_state.dump_hold_depth == 0 || --t_state.dump_hold_depth != 0 || t_state.dump_was_blocked) return;
  ChangeSignalMask(SIG_UNBLOCK, SignalBit(g_signo));
}

}  // namespace profagent
