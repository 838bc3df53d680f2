// sigaction and its older relatives: what libc's do, but that the agent stands before the handlers of some signals
// (capture/virtual_signals.h), and that all return our way (capture/handler_return.h).
//
// Others:  where somebody else interposes sigaction after us (Java's libjsig), signals that are not the agent's go to them,
//          and handlers for those that are.
// Context: `hook`; async-signal-safe as the originals are: no lock that a handler could wait for, errno only
//          on error.
#include <signal.h>

#include <cerrno>
#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/base/signal_safe.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/foreign_signals.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/real_functions.h"
#include "agent/interpose/signal_masks.h"

namespace profagent {
namespace {

KernelSigaction ToKernel(const struct sigaction& action) {
  KernelSigaction kernel;
  kernel.handler = reinterpret_cast<uintptr_t>(action.sa_handler);
  kernel.flags = static_cast<uint32_t>(action.sa_flags);
  std::memcpy(&kernel.mask, &action.sa_mask, sizeof kernel.mask);
  return kernel;
}

constexpr int kFirstOfLibc = 32;  // for cancellation and setuid; libc says that there are no such signals
constexpr int kLastOfLibc = 33;

bool IsOurs(int signo) {
  if (g_virtual_signals.IsTaken(signo)) return true;
  bool exists = signo > 0 && signo < NSIG && signo != kFirstOfLibc && signo != kLastOfLibc;
  return exists && Real().signal_actions_are_libcs;
}

// SIG_IGN, or a default that does nothing, takes away what is pending, as in the kernel.
long Exchange(int signo, const KernelSigaction* action, KernelSigaction* old) {
  long result = g_virtual_signals.Exchange(signo, action, old);
  if (result == 0 && action != nullptr && g_cpu_capture.Owns(signo) && IgnoresSignal(signo, *action) &&
      g_cpu_capture.IsThisProcess()) {
    g_virtual_signals.ShowIgnoredToKernel(signo);  // which has some that no handler of ours has seen yet
    g_virtual_signals.TakeAgain(signo);
    g_foreign_signals.Discard();
  }
  return result;
}

int Sigaction(int signo, const struct sigaction* action, struct sigaction* old) {
  if (!IsOurs(signo)) return Real().sigaction(signo, action, old);
  KernelSigaction wanted;
  KernelSigaction before;
  if (action != nullptr) wanted = ToKernel(*action);
  long result = Exchange(signo, action != nullptr ? &wanted : nullptr, &before);
  if (result != 0) {
    errno = SyscallError(result);
    return -1;
  }
  if (old != nullptr) ToLibc(before, old);
  return 0;
}

// One handler for one signal, as signal() and its kin set it. SIG_ERR: errno says why.
sighandler_t SetHandler(int signo, sighandler_t handler, uint64_t flags, uint64_t mask) {
  KernelSigaction wanted{reinterpret_cast<uintptr_t>(handler), flags, 0, mask};
  KernelSigaction before;
  long result = Exchange(signo, &wanted, &before);
  if (result != 0) {
    errno = SyscallError(result);
    return SIG_ERR;
  }
  return reinterpret_cast<sighandler_t>(before.handler);
}

// What signal() and sysv_signal() refuse; sigset does not.
bool IsError(sighandler_t handler) {
  if (handler != SIG_ERR) return false;
  errno = EINVAL;
  return true;
}

// Signals for which siginterrupt asked that system calls be interrupted: what later calls of signal() must
// heed.
constinit std::atomic<uint64_t> g_interrupting{0};

sighandler_t BsdSignal(int signo, sighandler_t handler) {
  if (!IsOurs(signo)) return Real().signal(signo, handler);
  if (IsError(handler)) return SIG_ERR;
  bool interrupts = (g_interrupting.load(std::memory_order_relaxed) & SignalBit(signo)) != 0;
  return SetHandler(signo, handler, interrupts ? 0 : SA_RESTART, SignalBit(signo));
}

sighandler_t SysvSignal(int signo, sighandler_t handler) {
  if (!IsOurs(signo)) return Real().sysv_signal(signo, handler);
  if (IsError(handler)) return SIG_ERR;
  return SetHandler(signo, handler, SA_RESETHAND | SA_NODEFER, 0);
}

}  // namespace
}  // namespace profagent

PROF_EXPORT int sigaction(int signo, const struct sigaction* action, struct sigaction* old) noexcept {
  return profagent::Sigaction(signo, action, old);
}
PROF_EXPORT int __sigaction(int signo, const struct sigaction* action, struct sigaction* old) noexcept {
  return profagent::Sigaction(signo, action, old);
}
PROF_EXPORT sighandler_t signal(int signo, sighandler_t handler) noexcept {
  return profagent::BsdSignal(signo, handler);
}
PROF_EXPORT sighandler_t bsd_signal(int signo, sighandler_t handler) noexcept {
  return profagent::BsdSignal(signo, handler);
}
PROF_EXPORT sighandler_t ssignal(int signo, sighandler_t handler) noexcept {
  return profagent::BsdSignal(signo, handler);
}
PROF_EXPORT sighandler_t sysv_signal(int signo, sighandler_t handler) noexcept {
  return profagent::SysvSignal(signo, handler);
}
PROF_EXPORT sighandler_t __sysv_signal(int signo, sighandler_t handler) noexcept {
  return profagent::SysvSignal(signo, handler);
}

// System V: a disposition and the mask in one. SIG_HOLD is a mask, not an action.
PROF_EXPORT sighandler_t sigset(int signo, sighandler_t handler) noexcept {
  using namespace profagent;  // NOLINT(google-build-using-namespace): a function of ours in all but its name
  if (!IsOurs(signo)) return Real().sigset(signo, handler);
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  sigaddset(&one, signo);
  if (handler == SIG_HOLD) {
    if (ChangeMask(Real().sigprocmask, SIG_BLOCK, &one, &before) != 0) return SIG_ERR;
    if (sigismember(&before, signo) == 1) return SIG_HOLD;
    return reinterpret_cast<sighandler_t>(g_virtual_signals.ApplicationAction(signo).handler);
  }
  sighandler_t old = SetHandler(signo, handler, 0, 0);
  if (old == SIG_ERR || ChangeMask(Real().sigprocmask, SIG_UNBLOCK, &one, &before) != 0) return SIG_ERR;
  return sigismember(&before, signo) == 1 ? SIG_HOLD : old;
}

PROF_EXPORT int sigignore(int signo) noexcept {
  using namespace profagent;  // NOLINT(google-build-using-namespace): a function of ours in all but its name
  if (!IsOurs(signo)) return Real().sigignore(signo);
  return SetHandler(signo, SIG_IGN, 0, 0) == SIG_ERR ? -1 : 0;
}

PROF_EXPORT int siginterrupt(int signo, int interrupt) noexcept {
  using namespace profagent;  // NOLINT(google-build-using-namespace): a function of ours in all but its name
  if (!IsOurs(signo)) return Real().siginterrupt(signo, interrupt);
  KernelSigaction action = g_virtual_signals.ApplicationAction(signo);
  if (interrupt != 0) {
    g_interrupting.fetch_or(SignalBit(signo), std::memory_order_relaxed);
    action.flags &= ~static_cast<uint64_t>(SA_RESTART);
  } else {
    g_interrupting.fetch_and(~SignalBit(signo), std::memory_order_relaxed);
    action.flags |= SA_RESTART;
  }
  long result = g_virtual_signals.Exchange(signo, &action, nullptr);
  if (result == 0) return 0;
  errno = SyscallError(result);
  return -1;
}
