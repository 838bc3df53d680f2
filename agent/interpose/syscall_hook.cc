// libc's syscall: what programs use instead of the functions that we stand before by their names.
//
// futex:   what C++20's semaphore, latch, barrier and atomic::wait, Rust's std and many home-made locks wait in. Block profile
//          only: who will end such a wait, the kernel does not know either.
// Others:  exit_group, execve, execveat, rt_sigaction (chromium's crash handler), prctl and seccomp (libseccomp) do as libc's
//          functions of those names do in process_hooks and signal_action_hooks.
// Context: `hook`, also of programs that vfork or clone by this function: what is not ours leaves by a jump, with the
//          program's own frame on the stack and every register and stack word as it was.
// Result:  libc's, errno as libc set it (futex_waitv says which of its futexes was woken). EAGAIN (the value had changed) was no wait.
#include <errno.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "agent/base/raw_syscall.h"
#include "agent/capture/contention.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/process_hooks.h"

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13  // Linux 5.14
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449  // Linux 5.16
#endif

namespace profagent {
namespace {

bool Waits(long number, long operation) {
  if (number != SYS_futex) return number == SYS_futex_waitv;
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return true;
    default:
      return false;
  }
}

__attribute__((noinline)) long Wait(long number, long a, long b, long c, long d, long e, long f) {
  if (g_contention.block_rate() == 0) return g_real_locks.syscall(number, a, b, c, d, e, f);
  const void* word = number == SYS_futex ? reinterpret_cast<const void*>(a) : nullptr;  // else several
  WaitSlot* wait = g_contention.Begin(Primitive::kFutex, nullptr, word);
  long result = g_real_locks.syscall(number, a, b, c, d, e, f);
  g_contention.End(wait, result >= 0 || errno == ETIMEDOUT || errno == EINTR);
  return result;
}

long Prctl(long number, long a, long b, long c, long d, long e, long f) {
  auto call = [&] { return g_real_locks.syscall(number, a, b, c, d, e, f); };
  if (!IsSandboxPrctl(a, b, c)) return call();
  return EnterSandbox(call, [](long result) { return result != 0; });
}

long Seccomp(long number, long a, long b, long c, long d, long e, long f) {
  auto call = [&] { return g_real_locks.syscall(number, a, b, c, d, e, f); };
  if (!IsSandboxSeccomp(a, b, c)) return call();
  // With a listener the result is its descriptor; without one, a thread that has filters of its own.
  bool has_listener = (b & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0;
  return EnterSandbox(call, [&](long result) { return has_listener ? result < 0 : result != 0; });
}

// A pointer that leads nowhere is for the kernel to refuse. It looks at the action before it finds that there is no signal 0.
bool CanRead(const KernelSigaction* action) {
  return SyscallError(RawSyscall(SYS_rt_sigaction, 0, action, nullptr, sizeof action->mask)) != EFAULT;
}
bool CanWrite(int signo, KernelSigaction* old) {
  return RawSyscall(SYS_rt_sigaction, signo, nullptr, old, sizeof old->mask) == 0;
}

long Sigaction(long number, long a, long b, long c, long d, long e, long f) {
  auto signo = static_cast<int>(a);
  if (static_cast<size_t>(d) != sizeof(KernelSigaction::mask) || !g_virtual_signals.IsTaken(signo))
    return g_real_locks.syscall(number, a, b, c, d, e, f);
  const auto* action = reinterpret_cast<const KernelSigaction*>(b);
  auto* old = reinterpret_cast<KernelSigaction*>(c);
  KernelSigaction wanted;  // the two may be one
  bool valid = action == nullptr || CanRead(action);
  if (valid && action != nullptr) wanted = *action;
  valid = valid && (old == nullptr || CanWrite(signo, old));
  const KernelSigaction* given = action != nullptr ? &wanted : nullptr;
  long result = -EFAULT;
  if (valid) result = g_virtual_signals.Exchange(signo, given, old, VirtualSignals::Restorer::kAsGiven);
  if (result == 0) return 0;
  errno = SyscallError(result);
  return -1;
}

bool IsOurs(long number) {
  switch (number) {
    case SYS_rt_sigaction:
    case SYS_execve:
    case SYS_execveat:
    case SYS_exit_group:
    case SYS_prctl:
    case SYS_seccomp:
      return true;
    default:
      return false;
  }
}

// Apart, and of syscall's own type: that has no frame then, and moves no argument.
__attribute__((noinline)) long DoOurs(long number, long a, long b, long c, long d, long e, long f) {
  switch (number) {
    case SYS_rt_sigaction:
      return Sigaction(number, a, b, c, d, e, f);
    case SYS_execve:
      return Execve(reinterpret_cast<const char*>(a), reinterpret_cast<char* const*>(b),
                    reinterpret_cast<char* const*>(c));
    case SYS_execveat:
      return Execveat(static_cast<int>(a), reinterpret_cast<const char*>(b),
                      reinterpret_cast<char* const*>(c), reinterpret_cast<char* const*>(d),
                      static_cast<int>(e));
    case SYS_exit_group:
      Exit(static_cast<int>(a));
    case SYS_prctl:
      return Prctl(number, a, b, c, d, e, f);
    default:
      return Seccomp(number, a, b, c, d, e, f);
  }
}

}  // namespace

long instrumented::syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (Waits(number, b)) return Wait(number, a, b, c, d, e, f);
  if (IsOurs(number)) return DoOurs(number, a, b, c, d, e, f);
  return g_real_locks.syscall(number, a, b, c, d, e, f);
}

}  // namespace profagent
