#include "agent/lifecycle/process_life.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>

#include "agent/base/errno_saver.h"
#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/short_wait.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/process_hooks.h"
#include "agent/lifecycle/abort_call.h"
#include "agent/lifecycle/agent.h"
#include "agent/lifecycle/dump_signal.h"
#include "agent/lifecycle/own_profiles.h"
#include "agent/lifecycle/wanted_profiles.h"

extern "C" int __cxa_atexit(void (*)(void*), void*, void*) noexcept;  // NOLINT(bugprone-reserved-identifier)
extern "C" int __cxa_at_quick_exit(void (*)(void*), void*) noexcept;  // NOLINT(bugprone-reserved-identifier)

namespace profagent {
namespace {

// Of the last profile. release of kDone: it is written.
enum class EndState : uint8_t { kAhead, kWriting, kDone };

struct Life {
  ThisProcess process;                      // that all of this belongs to
  std::atomic<bool> enters_sandbox{false};  // a thread is before the call that does it, or behind
  std::atomic<bool> in_sandbox{false};      // or at that call: nothing may be done any more, unless it fails
  std::atomic<EndState> end{EndState::kAhead};
  std::atomic<uint32_t> exits{0};  // threads that called exit
  std::atomic<long> writer{0};     // tid of who is at it, or was
  OwnProfiles profiles;            // last: seldom touched, and large
};
constinit Life g_life_of_process;  // zeroes, untouched until needed
constinit Life* g_life = nullptr;

// Beside the faults, all whose default action terminates, with or without a core, but for SIGKILL.
constexpr int kOtherFatalSignals[] = {SIGHUP,  SIGINT,  SIGQUIT,   SIGTRAP, SIGABRT, SIGUSR1,
                                      SIGUSR2, SIGPIPE, SIGALRM,   SIGTERM, SIGXCPU, SIGSTKFLT,
                                      SIGXFSZ, SIGPROF, SIGVTALRM, SIGIO,   SIGPWR,  SIGSYS};

// Those of them that nobody else of ours has.
template <class Visit>
void ForEachOtherFatalSignal(Visit visit) {
  const Options& options = g_agent.options();
  for (int signo : kOtherFatalSignals) {
    bool is_others = signo == options.dump_signal || (options.cpu_wanted() && signo == options.cpu_signal);
    if (!is_others) visit(signo);
  }
}

bool InSandbox() { return g_life != nullptr && g_life->in_sandbox.load(std::memory_order_acquire); }

// One in which the agent may act: false in a sandbox (even to ask for the pid may kill), in a vfork child, and in a process made
// by a raw clone or fork system call, or by libc's clone. That one may have our pid, in a namespace of its own: 1.
bool IsOurProcess() {
  if (g_life == nullptr || InSandbox() || RawSyscall(SYS_getpid) != g_life->process.pid) return false;
  return !g_agent.ledger().is_open() || g_agent.ledger().IsOwn();
}

void Note(ProcessEnd end) {
  if (!g_agent.ledger().is_open()) return;
  LedgerHeader* header = g_agent.ledger().header();
  uint64_t now = end == ProcessEnd::kRunning ? 0 : ReadClock(CLOCK_MONOTONIC).value;
  header->end_monotonic_ns.store(now, std::memory_order_relaxed);
  header->process_end.store(static_cast<uint32_t>(end), std::memory_order_relaxed);
}

// False: it lost patience.
bool WaitUntil(bool (*over)()) {
  for (int waited = 0; waited < kPatienceMillis; ++waited) {
    if (over()) return true;
    SleepMillisecond();
  }
  return false;
}

// Another thread is writing the last profile while this one is about to end the process. One that never comes to its end (a dead
// network file system) is waited for once.
void WaitForWriter() {
  if (g_life->writer.load(std::memory_order_relaxed) == RawSyscall(SYS_gettid)) return;
  WaitUntil([] { return g_life->end.load(std::memory_order_acquire) != EndState::kWriting; });
  EndState late = EndState::kWriting;
  g_life->end.compare_exchange_strong(late, EndState::kDone, std::memory_order_relaxed);
}

void End(ProcessEnd how) {
  if (!IsOurProcess() || !g_agent.active()) return;
  ErrnoSaver keep_errno;
  AllSignalsBlocked quiet;
  EndState ahead = EndState::kAhead;
  if (!g_life->end.compare_exchange_strong(ahead, EndState::kWriting, std::memory_order_acq_rel)) {
    WaitForWriter();
    return;
  }
  g_life->writer.store(RawSyscall(SYS_gettid), std::memory_order_relaxed);
  g_agent.StopCpu();
  Note(how);
  if (g_agent.ledger().in_file()) {
    g_agent.ledger().ReleaseUnused();
  } else {
    g_life->profiles.Write(g_life->process, WrittenAt::kEnd, Afterwards::kProcessEnds);
  }
  g_life->end.store(EndState::kDone, std::memory_order_release);
}

void EndByExit(void*) { End(ProcessEnd::kExited); }

// Of two threads that exit at once (one of them by a return from main, which no hook sees), libc gives each exit handler
// to one, and the thread that finds none left ends the process, in the middle of the other one's write (glibc before
// 2.41). So there is always one more to find, that waits for the writer, or is the writer if the other thread has been given
// EndByExit and not begun yet. It enters itself again first, for the next thread, which allocates nothing, since the place that it
// left is free.
// Not a wrapper around main, which would exit by our hook: its frame would be in every backtrace that the program prints.
template <class Enter>
void EndAgain(Enter enter) {
  if (!IsOurProcess() || !g_agent.active()) return;
  if (g_life->end.load(std::memory_order_acquire) == EndState::kDone) return;
  enter();
  End(ProcessEnd::kExited);
}

void WaitAtExit(void*) {
  EndAgain([] { __cxa_atexit(WaitAtExit, nullptr, nullptr); });
}

void WaitAtQuickExit(void*) {
  EndAgain([] { __cxa_at_quick_exit(WaitAtQuickExit, nullptr); });
}

// Raised by the very instruction that the handler returns to.
bool IsFault(int signo, const siginfo_t* info) {
  return info->si_code > 0 && std::ranges::find(kFaultSignals, signo) != std::end(kFaultSignals);
}

void OnFatalSignal(int signo, siginfo_t* info, void* context) {
  if (!g_virtual_signals.IsDefault(signo)) {  // the application set a handler since the kernel chose ours
    g_virtual_signals.PassOn(signo, info);
    return;
  }
  End(ProcessEnd::kSignalled);
  if (IsFault(signo, info) && IsOurProcess()) {
    // It comes again before the instruction runs: the core shows the program's own registers, not ours, and the same cause. Should
    // the kernel refuse that, the instruction faults again (but not where the kernel had no room for another signal's frame).
    g_virtual_signals.GiveBack(signo);
    RawSyscall(SYS_rt_tgsigqueueinfo, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), signo, info);
    return;
  }
  g_virtual_signals.DieOf(signo);
}

// A handler that returns to abort: what kills then is the default action, which abort puts in place without asking us.
void AfterAbortHandler(const ucontext_t& context) {
  if (IsOurProcess() && IsInAbort(context)) End(ProcessEnd::kSignalled);
}

// No other thread can be sampling: none was ever entered.
bool WasEverAlone() {
  const Ledger& ledger = g_agent.ledger();
  RecordId newest = ledger.header()->threads.load(std::memory_order_acquire);
  auto* thread = reinterpret_cast<const ThreadRecord*>(ledger.bytes().data() + newest * kRecordUnit);
  return newest != 0 && thread->next == 0;
}

ExecWord Word() { return g_life->process.first ? ExecWord::kFirst : ExecWord::kLater; }

ExecWord BeforeExec() {
  if (g_life == nullptr) return ExecWord::kLater;
  // Whether this is a vfork child cannot be asked. Without a word the next program finds out by itself whether it is the first;
  // but not that it is not to be profiled.
  if (InSandbox()) {
    return g_agent.options().follow_children && g_life->process.first ? ExecWord::kNone : ExecWord::kLater;
  }
  ErrnoSaver keep_errno;
  if (g_agent.active()) g_agent.PauseThisThreadForExec();  // a vfork child, too
  if (!IsOurProcess()) return ExecWord::kLater;
  if (!g_agent.active()) return Word();
  AllSignalsBlocked quiet;
  g_agent.SettleCpu();  // of the other threads
  Note(ProcessEnd::kExecuted);
  if (!g_agent.ledger().in_file()) {
    g_life->profiles.Write(g_life->process, WrittenAt::kExec, Afterwards::kProcessGoesOn);
  } else if (WasEverAlone()) {
    g_agent.ledger().ReleaseUnused();
  }
  return Word();
}

void ExecFailed() {
  if (!IsOurProcess() || !g_agent.active()) return;
  g_life->profiles.TakeBack();
  Note(ProcessEnd::kRunning);
  if (!g_agent.ledger().ReserveAgain()) {
    g_agent.StopCpu();
    return;
  }
  g_agent.ResumeAfterFailedExec();
}

void BeforeDaemon() {
  if (!IsOurProcess() || !g_agent.active()) return;
  ErrnoSaver keep_errno;
  AllSignalsBlocked quiet;
  g_agent.SettleCpu();
  Note(ProcessEnd::kExited);
  if (g_agent.ledger().in_file()) return;
  g_life->profiles.Write(g_life->process, WrittenAt::kEnd, Afterwards::kProcessGoesOn);
}

void DaemonFailed() {
  if (!IsOurProcess() || !g_agent.active()) return;
  g_life->profiles.TakeBack();
  Note(ProcessEnd::kRunning);
}

// The last chance to write. By the time that a profile takes, other threads are through with what they were recording.
bool BeforeSandbox() {
  if (g_life == nullptr || InSandbox()) return false;
  bool ours = IsOurProcess();
  const Ledger& ledger = g_agent.ledger();
  if (!ours && ledger.CanRecord()) return false;  // a vfork child: this is its parent's memory
  ErrnoSaver keep_errno;
  // For another thread: our filter might be the end of it. Where its own is refused, it is our turn.
  bool in_time = WaitUntil(
      [] { return InSandbox() || !g_life->enters_sandbox.exchange(true, std::memory_order_acq_rel); });
  if (!in_time || InSandbox()) return false;
  WaitForWriter();
  bool goes_on = ours && g_agent.active() && g_life->end.load(std::memory_order_acquire) == EndState::kAhead;
  if (goes_on) {
    Log(Verbosity::kFiles, "the program enters a sandbox (seccomp): its profiles end here");
    Note(ProcessEnd::kSandboxed);
  }
  g_agent.StopSampling();
  AllSignalsBlocked quiet;
  if (goes_on && !ledger.in_file()) {
    g_life->profiles.Write(g_life->process, WrittenAt::kEnd, Afterwards::kProcessGoesOn);
  }
  g_agent.GiveSignalsBack(quiet);
  g_life->in_sandbox.store(true, std::memory_order_release);
  return ours;  // what a raw fork made has nothing to come back to
}

void SandboxRefused() {
  g_life->in_sandbox.store(false, std::memory_order_release);
  if (g_agent.active() && g_life->end.load(std::memory_order_acquire) == EndState::kAhead) {
    g_life->profiles.TakeBack();
    Note(ProcessEnd::kRunning);
    Log(Verbosity::kFiles, "the sandbox was refused: the program is profiled on");
  }
  g_agent.Return();
  g_life->enters_sandbox.store(false, std::memory_order_release);  // who waits for it finds all as it was
}

// Threads that exit at once race for the exit handlers, and whoever finds none left ends the process while another may
// be writing in ours. So the second one writes before it joins the race; whoever comes later waits for the writer.
void BeforeExitHandlers() {
  if (!IsOurProcess()) return;
  bool alone = g_life->exits.fetch_add(1, std::memory_order_relaxed) == 0;
  if (!alone || g_life->end.load(std::memory_order_acquire) != EndState::kAhead) End(ProcessEnd::kExited);
}

void BeforeExit() { End(ProcessEnd::kExited); }

void BeforeFork() {
  if (!IsOurProcess()) return;
  HoldDumpSignal();
  g_agent.BeforeFork();
}

void AfterForkInParent() {
  if (!IsOurProcess()) return;
  g_agent.AfterForkParent();
  ReleaseDumpSignal();
}

void AfterForkInChild() {
  if (g_life == nullptr) return;
  g_life->process.first = false;
  if (InSandbox()) return;
  g_life->enters_sandbox.store(false, std::memory_order_relaxed);  // a thread that is not in the child
  g_life->process.pid = static_cast<uint32_t>(RawSyscall(SYS_getpid));
  g_life->end.store(EndState::kAhead, std::memory_order_relaxed);
  g_life->exits.store(0, std::memory_order_relaxed);
  g_life->writer.store(0, std::memory_order_relaxed);
  g_life->profiles.BeginAnew();
  ForgetDumpRequests();
  g_agent.RestartAfterForkInChild();
  // The first one of a PID namespace (unshare): as in StartProcessLife.
  if (g_life->process.pid == 1) ForEachOtherFatalSignal([](int signo) { g_virtual_signals.GiveBack(signo); });
  ReleaseDumpSignal();
}

// Space that the program could have had without us would not be there. What a file takes is no data.
void BeforeLimit(uint64_t bytes, bool data) {
  Ledger& ledger = g_agent.ledger();
  if (data && ledger.in_file()) return;
  // vsftpd's sessions: of a raw clone's copy of us nothing is recorded, and the limit is its own. (A vfork child's ledger is its
  // parent's, and keeps what it has.)
  bool is_copy = ledger.is_open() && !ledger.IsOwn();
  if (is_copy || IsOurProcess()) ledger.KeepToLimit(Bytes{bytes});
}

constexpr ProcessEvents kEvents = {
    .before_exec = BeforeExec,
    .exec_failed = ExecFailed,
    .before_spawn = [] { g_agent.BeforeSpawn(); },
    .after_spawn = [] { g_agent.AfterSpawn(); },
    .before_daemon = BeforeDaemon,
    .daemon_failed = DaemonFailed,
    .before_exit_handlers = BeforeExitHandlers,
    .before_exit = BeforeExit,
    .before_fork = BeforeFork,
    .after_fork_in_parent = AfterForkInParent,
    .after_fork_in_child = AfterForkInChild,
    .before_limit = BeforeLimit,
    .before_sandbox = BeforeSandbox,
    .sandbox_refused = SandboxRefused,
    .in_sandbox = InSandbox,
};

}  // namespace

void EndBySignal(int, siginfo_t*, void*) { End(ProcessEnd::kSignalled); }

void StartProcessLife(Lineage lineage) {
  g_life = &g_life_of_process;
  g_life->process.pid = static_cast<uint32_t>(RawSyscall(SYS_getpid));
  g_life->process.first = lineage != Lineage::kLater;
  g_life->profiles.stack().Prepare();
  SetProcessEvents(&kEvents);
  // Registered before the program's own handlers, and with no library to belong to: so they run after all
  // others, destructors of libraries included, and the profile holds their time too.
  __cxa_atexit(WaitAtExit, nullptr, nullptr);
  __cxa_atexit(EndByExit, nullptr, nullptr);
  __cxa_at_quick_exit(WaitAtQuickExit, nullptr);
  __cxa_at_quick_exit(EndByExit, nullptr);
  pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  const Options& options = g_agent.options();
  bool dumps_are_wanted =
      options.dump_signal_named || !options.heap_profile.empty() || !WantedBy(options).any_at_end();
  StartDumpSignal(options.dump_signal, {.stack = &g_life->profiles.stack(),
                                        .write = [] { g_life->profiles.WriteDump(g_life->process); },
                                        .give_up = [] { g_life->profiles.GiveUp(); },
                                        .is_over = InSandbox,
                                        .loud = dumps_are_wanted && !g_agent.ledger().in_file()});
  // With the ledger in a file the samples survive any death, and with no file to write at the end they may go: the
  // program's signals are left alone.
  if (g_agent.ledger().in_file() || !WantedBy(options).any_at_end()) return;
  FindAbort();
  g_virtual_signals.UseAbortReturn(AfterAbortHandler);
  AllSignalsBlocked blocked;
  for (int signo : kFaultSignals) g_virtual_signals.Take(blocked, signo, OnFatalSignal);
  // To the first process of a container the kernel sends no signal that it has no handler for: with one of ours it would die.
  if (g_life->process.pid == 1) return;
  ForEachOtherFatalSignal([&](int signo) { g_virtual_signals.Take(blocked, signo, OnFatalSignal); });
}

}  // namespace profagent
