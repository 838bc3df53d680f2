// Every libc function that takes a signal mask or waits for a signal: the CPU signal is kept out
// (signal_masks.h), and our own ticks are not what the application waited for.
//
// Context: `hook`; async-signal-safe as the originals are. The waiting ones are cancellation points: the
//          original is called by them, with nothing in this frame that a cancelled thread would have to give
//          back.
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "agent/base/errno_saver.h"
#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/foreign_signals.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/real_functions.h"
#include "agent/interpose/signal_masks.h"

namespace profagent {
namespace {

bool Names(const sigset_t* set, int signo) {
  return set != nullptr && signo != 0 && sigismember(set, signo) == 1;
}

// As the kernel has it: what 64 bits of nanoseconds cannot hold is for ever.
uint64_t NanosOf(const struct timespec& time) {
  constexpr uint64_t kLongest = INT64_MAX / kNanosPerSecond;
  uint64_t seconds = std::min(static_cast<uint64_t>(time.tv_sec), kLongest);
  return seconds * kNanosPerSecond + static_cast<uint64_t>(time.tv_nsec);
}

// sigtimedwait on a set that holds the CPU signal. The signal is blocked for real meanwhile, so that the
// kernel keeps what arrives; ticks of ours among it are counted and the wait goes on.
int WaitForSignal(int signo, const sigset_t* set, siginfo_t* info, const struct timespec* timeout) {
  uint64_t bit = SignalBit(signo);
  uint64_t deadline = 0;
  if (timeout != nullptr) deadline = ReadClock(CLOCK_MONOTONIC).value + NanosOf(*timeout);
  uint64_t before = ChangeSignalMask(SIG_BLOCK, bit);
  g_foreign_signals.Wait(true);
  int result = -1;
  siginfo_t seen;
  struct timespec left = timeout != nullptr ? *timeout : timespec{};
  for (;;) {
    if (g_foreign_signals.TakeWhatWaits(&seen)) {
      result = signo;
      if (seen.si_code == SI_TKILL) seen.si_code = SI_USER;  // as libc shows it
      break;
    }
    result = Real().sigtimedwait(set, &seen, timeout != nullptr ? &left : nullptr);
    if (result != signo || !g_cpu_capture.CountIfOurs(seen)) break;
    if (timeout == nullptr) continue;
    uint64_t now = ReadClock(CLOCK_MONOTONIC).value;
    uint64_t rest = now < deadline ? deadline - now : 0;
    left = {static_cast<time_t>(rest / kNanosPerSecond), static_cast<long>(rest % kNanosPerSecond)};
  }
  if (result == signo) g_foreign_signals.RestoreCode(&seen);
  if (result > 0 && info != nullptr) *info = seen;
  ErrnoSaver keep;
  if (g_cpu_capture.signo() == 0) return result;  // a sandbox that another thread entered meanwhile
  g_foreign_signals.Wait(false);
  if ((before & bit) == 0) {
    ChangeSignalMask(SIG_UNBLOCK, bit);
    g_foreign_signals.LetThrough();
  }
  return result;
}

// The BSD calls know 32 signals.
sigset_t SetOfWord(int word) {
  sigset_t set;
  sigemptyset(&set);
  uint32_t bits = static_cast<uint32_t>(word);
  std::memcpy(&set, &bits, sizeof bits);
  return set;
}

int WordOf(const sigset_t& set) {
  int word = 0;
  std::memcpy(&word, &set, sizeof word);
  return word;
}

int Suspend(const sigset_t* set) {
  TemporaryMask mask(set);
  return Real().sigsuspend(mask.get());
}

int Pause(int signo_or_mask, bool is_signal) {
  sigset_t set = SetOfWord(is_signal ? 0 : signo_or_mask);
  if (is_signal) {
    if (ChangeMask(Real().sigprocmask, SIG_BLOCK, nullptr, &set) != 0 || sigdelset(&set, signo_or_mask) != 0)
      return -1;
  }
  return Suspend(&set);
}

}  // namespace
}  // namespace profagent

using profagent::ChangeMask;
using profagent::g_cpu_capture;
using profagent::Real;
using profagent::TemporaryMask;

PROF_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return ChangeMask(Real().sigprocmask, how, set, old);
}

PROF_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return ChangeMask(Real().pthread_sigmask, how, set, old);
}

PROF_EXPORT int sigblock(int mask) noexcept {
  sigset_t set = profagent::SetOfWord(mask);
  sigset_t old;
  return ChangeMask(Real().sigprocmask, SIG_BLOCK, &set, &old) != 0 ? -1 : profagent::WordOf(old);
}

PROF_EXPORT int sigsetmask(int mask) noexcept {
  sigset_t set = profagent::SetOfWord(mask);
  sigset_t old;
  return ChangeMask(Real().sigprocmask, SIG_SETMASK, &set, &old) != 0 ? -1 : profagent::WordOf(old);
}

PROF_EXPORT int siggetmask() noexcept {
  sigset_t old;
  return ChangeMask(Real().sigprocmask, SIG_BLOCK, nullptr, &old) != 0 ? -1 : profagent::WordOf(old);
}

PROF_EXPORT int sighold(int signo) noexcept {
  sigset_t set;
  sigemptyset(&set);
  if (sigaddset(&set, signo) != 0) return -1;
  return ChangeMask(Real().sigprocmask, SIG_BLOCK, &set, nullptr);
}

PROF_EXPORT int sigrelse(int signo) noexcept {
  sigset_t set;
  sigemptyset(&set);
  if (sigaddset(&set, signo) != 0) return -1;
  return ChangeMask(Real().sigprocmask, SIG_UNBLOCK, &set, nullptr);
}

PROF_EXPORT int sigsuspend(const sigset_t* set) { return profagent::Suspend(set); }
PROF_EXPORT int __sigsuspend(const sigset_t* set) { return profagent::Suspend(set); }

// The header gives the name sigpause to the last of the three, so all have names of their own here.
PROF_EXPORT int BsdSigpause(int mask) asm("sigpause");
PROF_EXPORT int EitherSigpause(int signo_or_mask, int is_signal) asm("__sigpause");
PROF_EXPORT int XpgSigpause(int signo) asm("__xpg_sigpause");
int BsdSigpause(int mask) { return profagent::Pause(mask, false); }
int EitherSigpause(int signo_or_mask, int is_signal) {
  return profagent::Pause(signo_or_mask, is_signal != 0);
}
int XpgSigpause(int signo) { return profagent::Pause(signo, true); }

PROF_EXPORT int sigpending(sigset_t* set) noexcept {
  int result = Real().sigpending(set);
  if (result == 0 && g_cpu_capture.signo() != 0 && profagent::g_foreign_signals.IsPending())
    sigaddset(set, g_cpu_capture.signo());
  return result;
}

PROF_EXPORT int sigtimedwait(const sigset_t* set, siginfo_t* info, const struct timespec* timeout) {
  int ours = g_cpu_capture.signo();
  if (!profagent::Names(set, ours)) return Real().sigtimedwait(set, info, timeout);
  return profagent::WaitForSignal(ours, set, info, timeout);
}

PROF_EXPORT int sigwaitinfo(const sigset_t* set, siginfo_t* info) {
  int ours = g_cpu_capture.signo();
  if (!profagent::Names(set, ours)) return Real().sigwaitinfo(set, info);
  return profagent::WaitForSignal(ours, set, info, nullptr);
}

PROF_EXPORT int sigwait(const sigset_t* set, int* signo) {
  int ours = g_cpu_capture.signo();
  if (!profagent::Names(set, ours)) return Real().sigwait(set, signo);
  profagent::ErrnoSaver keep;
  for (;;) {
    int result = profagent::WaitForSignal(ours, set, nullptr, nullptr);
    if (result > 0) {
      *signo = result;
      return 0;
    }
    if (errno != EINTR) return errno;
  }
}

PROF_EXPORT int signalfd(int fd, const sigset_t* set, int flags) noexcept {
  int signo = g_cpu_capture.signo();
  if (!profagent::Names(set, signo) || profagent::t_state.reads_signal)
    return Real().signalfd(fd, set, flags);
  sigset_t without = *set;
  sigdelset(&without, signo);
  int result = Real().signalfd(fd, &without, flags);
  if (result >= 0) {
    uint64_t mask = 0;
    std::memcpy(&mask, set, sizeof mask);
    profagent::ErrnoSaver keep;
    if (g_cpu_capture.IsThisProcess()) profagent::g_foreign_signals.ReadBy(result, mask);
  }
  return result;
}

PROF_EXPORT int ppoll(struct pollfd* files, nfds_t count, const struct timespec* timeout,
                      const sigset_t* set) {
  TemporaryMask mask(set);
  return Real().ppoll(files, count, timeout, mask.get());
}

PROF_EXPORT int __ppoll_chk(struct pollfd* files, nfds_t count, const struct timespec* timeout,
                            const sigset_t* set, size_t size) {
  TemporaryMask mask(set);
  return Real().ppoll_chk(files, count, timeout, mask.get(), size);
}

PROF_EXPORT int pselect(int count, fd_set* reads, fd_set* writes, fd_set* exceptions,
                        const struct timespec* timeout, const sigset_t* set) {
  TemporaryMask mask(set);
  return Real().pselect(count, reads, writes, exceptions, timeout, mask.get());
}

PROF_EXPORT int epoll_pwait(int epoll, struct epoll_event* events, int count, int timeout,
                            const sigset_t* set) {
  TemporaryMask mask(set);
  return Real().epoll_pwait(epoll, events, count, timeout, mask.get());
}

PROF_EXPORT int epoll_pwait2(int epoll, struct epoll_event* events, int count, const struct timespec* timeout,
                             const sigset_t* set) {
  TemporaryMask mask(set);
  return Real().epoll_pwait2(epoll, events, count, timeout, mask.get());
}
