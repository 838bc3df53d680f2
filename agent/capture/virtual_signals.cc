#include "agent/capture/virtual_signals.h"

#include <ucontext.h>

#include <cerrno>
#include <cstring>

#include "agent/base/errno_saver.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/short_wait.h"
#include "agent/capture/handler_return.h"
#include "agent/capture/interrupted_call.h"

// Where the kernel enters for an application's handler with SA_RESETHAND: the kernel itself would put SIG_DFL
// in its place, and not ours. On to the handler, on the kernel's frame, as capture/cpu_handler.cc does it.
extern "C" __attribute__((visibility("hidden"))) void profagent_reset_hand_entry(int, siginfo_t*, void*);
extern "C" __attribute__((visibility("hidden"), used)) PROF_SIGNAL_SAFE uintptr_t
profagent_on_reset_hand(int signo, siginfo_t*, void* context) {
  bool would_kill = false;
  // It is the handler's by now; in sigsuspend and its like on top of another one than that which the handler returns to.
  uint64_t mask = profagent::ChangeSignalMask(SIG_BLOCK, 0);
  uintptr_t handler = profagent::g_virtual_signals.NextHandler(signo, context, &would_kill);
  if (handler != 0) profagent::SetSignalMask(mask);
  if (handler == 0 && would_kill)
    profagent::g_virtual_signals.PassOn(signo, nullptr);  // reset by another thread meanwhile
  return handler;
}
PROF_ENTER_APPLICATION_HANDLER("profagent_reset_hand_entry", "profagent_on_reset_hand")

extern "C" __attribute__((visibility("hidden"), used, force_align_arg_pointer)) void
profagent_after_abort_handler(const ucontext_t* context) {
  profagent::g_virtual_signals.AfterAbortHandler(*context);
}

namespace profagent {
namespace {

constexpr uint64_t kSaRestorer = 0x04000000;
constexpr size_t kMaskSize = sizeof(uint64_t);
constexpr uint64_t kOurFlags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | kSaRestorer;
constexpr uint64_t kSaExposeTagBits = 0x800;
// The kernel forgets all others (since 5.11), and by that a program knows which it has.
constexpr uint64_t kKnownFlags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | kSaExposeTagBits | kSaRestorer |
                                 SA_ONSTACK | SA_RESTART | SA_NODEFER | uint64_t{SA_RESETHAND & 0xffffffff};

PROF_ALWAYS_INLINE long KernelExchange(int signo, const KernelSigaction* action, KernelSigaction* old) {
  return RawSyscall(SYS_rt_sigaction, signo, action, old, kMaskSize);
}

}  // namespace

constinit VirtualSignals g_virtual_signals;

void ToLibc(const KernelSigaction& kernel, struct sigaction* action) {
  std::memset(action, 0, sizeof *action);
  action->sa_handler = reinterpret_cast<sighandler_t>(kernel.handler);
  action->sa_flags = static_cast<int>(kernel.flags);
  action->sa_restorer = reinterpret_cast<void (*)()>(kernel.restorer);
  std::memcpy(&action->sa_mask, &kernel.mask, sizeof kernel.mask);
}

uint64_t SetSignalMask(uint64_t mask) { return ChangeSignalMask(SIG_SETMASK, mask); }

uint64_t ChangeSignalMask(int how, uint64_t mask) {
  uint64_t before = 0;
  RawSyscall(SYS_rt_sigprocmask, how, &mask, &before, kMaskSize);
  return before;
}

class VirtualSignals::Locked {
 public:
  // A handler that waited for the lock of the thread that it interrupted would wait for ever.
  Locked(const AllSignalsBlocked&, Entry& entry) : entry_(entry) {
    for (ShortWait wait; entry_.locked.exchange(1, std::memory_order_acquire) != 0;) wait.Once();
  }
  ~Locked() { entry_.locked.store(0, std::memory_order_release); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Entry& entry_;
};

// A reader in a handler must not wait for a writer that it may have interrupted; but writers block every
// signal, so the writer is another thread and about to finish.
KernelSigaction VirtualSignals::Read(const Entry& entry) const {
  for (ShortWait wait;; wait.Once()) {
    uint32_t version = entry.version.load(std::memory_order_acquire);
    KernelSigaction action;
    action.handler = entry.action_handler.load(std::memory_order_relaxed);
    action.flags = entry.action_flags.load(std::memory_order_relaxed);
    action.restorer = entry.action_restorer.load(std::memory_order_relaxed);
    action.mask = entry.action_mask.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((version & 1) == 0 && entry.version.load(std::memory_order_relaxed) == version) return action;
  }
}

// From the change of an entry's version to odd until the end: readers wait for what is to be `action`.
class VirtualSignals::Rewrite {
 public:
  explicit Rewrite(Entry& entry) : entry_(entry) {
    entry_.version.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
  }
  ~Rewrite() { entry_.version.fetch_add(1, std::memory_order_release); }
  Rewrite(const Rewrite&) = delete;
  Rewrite& operator=(const Rewrite&) = delete;
  void Put(const KernelSigaction& action) {
    entry_.action_handler.store(action.handler, std::memory_order_relaxed);
    entry_.action_flags.store(action.flags, std::memory_order_relaxed);
    entry_.action_restorer.store(action.restorer, std::memory_order_relaxed);
    entry_.action_mask.store(action.mask, std::memory_order_relaxed);
  }

 private:
  Entry& entry_;
};

void VirtualSignals::Write(Entry& entry, const KernelSigaction& action) { Rewrite(entry).Put(action); }

AgentSignalHandler VirtualSignals::OurHandler(const Entry& entry) {
  return entry.hold.load(std::memory_order_relaxed) == Hold::kGuarded ? entry.guard : entry.handler;
}

KernelSigaction VirtualSignals::OurAction(const Entry& entry) const {
  return {reinterpret_cast<uintptr_t>(OurHandler(entry)), kOurFlags, HandlerReturn(), kAllSignals};
}

// What the kernel holds of a signal that is held so, when the application wants `wanted`.
KernelSigaction VirtualSignals::ActionFor(Hold hold, const Entry& entry,
                                          const KernelSigaction& wanted) const {
  if (hold == Hold::kNot) return wanted;
  if (hold != Hold::kWhileDefault || wanted.is_default()) return OurAction(entry);
  KernelSigaction given = wanted;
  if (!wanted.is_ignored() && (wanted.flags & SA_RESETHAND) != 0) {
    given.handler = reinterpret_cast<uintptr_t>(profagent_reset_hand_entry);
    given.flags = (wanted.flags & ~static_cast<uint64_t>(SA_RESETHAND)) | SA_SIGINFO;
  }
  if (&entry == &entries_[SIGABRT] && wanted.restorer == HandlerReturn() && after_abort_handler_ != nullptr)
    given.restorer = AbortHandlerReturn();
  return given;
}

bool VirtualSignals::Take(const AllSignalsBlocked& blocked, int signo, AgentSignalHandler handler, Hold hold,
                          void (*on_other_action)(int signo)) {
  if (!InRange(signo)) return false;
  Entry& entry = entries_[signo];
  Locked lock(blocked, entry);
  KernelSigaction before;
  NoteProcess();
  entry.handler = handler;
  entry.on_other_action = on_other_action;
  entry.hold.store(hold, std::memory_order_release);
  KernelSigaction ours = OurAction(entry);
  {
    // One call says what was there and takes its place. Our handler, if the signal comes just now to another thread,
    // waits in Read until it can be told.
    Rewrite rewrite(entry);
    if (KernelExchange(signo, &ours, &before) != 0) {
      entry.hold.store(Hold::kNot, std::memory_order_release);
      return false;
    }
    rewrite.Put(before);
  }
  return hold == Hold::kAlways || before.is_default() || KernelExchange(signo, &before, nullptr) == 0;
}

void VirtualSignals::GiveBack(int signo) {
  if (!IsTaken(signo)) return;
  Entry& entry = entries_[signo];
  AllSignalsBlocked blocked;
  Locked lock(blocked, entry);
  KernelSigaction action = Read(entry);
  KernelExchange(signo, &action, nullptr);
  entry.hold.store(Hold::kNot, std::memory_order_release);
}

bool VirtualSignals::Guard(const AllSignalsBlocked& blocked, int signo, AgentSignalHandler handler) {
  if (!InRange(signo)) return false;
  Entry& entry = entries_[signo];
  Locked lock(blocked, entry);
  KernelSigaction found;
  Hold hold = entry.hold.load(std::memory_order_relaxed);
  if (hold == Hold::kGuarded || KernelExchange(signo, nullptr, &found) != 0) return false;
  // Otherwise a raw system call put it there, or the signal was not taken.
  if (hold == Hold::kNot) NoteProcess();
  bool known = hold != Hold::kNot && found.handler == ActionFor(hold, entry, Read(entry)).handler;
  if (!known) Write(entry, found);
  entry.guard = handler;
  entry.hold_beneath = hold;
  entry.hold.store(Hold::kGuarded, std::memory_order_release);
  KernelSigaction ours = OurAction(entry);
  KernelExchange(signo, &ours, nullptr);
  return true;
}

void VirtualSignals::Unguard(const AllSignalsBlocked& blocked, int signo) {
  Entry& entry = entries_[signo];
  Locked lock(blocked, entry);
  if (entry.hold.load(std::memory_order_relaxed) != Hold::kGuarded) return;
  entry.hold.store(entry.hold_beneath, std::memory_order_release);
  KernelSigaction action = ActionFor(entry.hold_beneath, entry, Read(entry));
  KernelExchange(signo, &action, nullptr);
}

uintptr_t VirtualSignals::LeaveToOthers(int signo, siginfo_t* info, void* context, bool of_instruction) {
  Entry& entry = entries_[signo];
  KernelSigaction action = Read(entry);
  if (action.is_default() && entry.hold_beneath == Hold::kWhileDefault) {
    entry.handler(signo, info, context);
    return 0;
  }
  // The kernel chose the alternate stack because our flags say so; the application's may not.
  const auto& interrupted = *static_cast<const ucontext_t*>(context);
  auto low = reinterpret_cast<uintptr_t>(interrupted.uc_stack.ss_sp);
  size_t size = interrupted.uc_stack.ss_size;
  auto stack_pointer = static_cast<uintptr_t>(interrupted.uc_mcontext.gregs[REG_RSP]);
  bool moved = reinterpret_cast<uintptr_t>(context) - low < size && stack_pointer - low >= size;
  if (!action.is_default() && !action.is_ignored() && (!moved || (action.flags & SA_ONSTACK) != 0)) {
    bool would_kill = false;
    uintptr_t handler = NextHandler(signo, context, &would_kill);
    if (handler != 0) return handler;  // 0: another thread took it away
  }
  if (action.is_ignored() && !of_instruction) return 0;
  Unguard(AllSignalsBlocked(), signo);
  if (!of_instruction) PassOn(signo, info);
  return 0;
}

bool VirtualSignals::IsTaken(int signo) const {
  return InRange(signo) && entries_[signo].hold.load(std::memory_order_acquire) != Hold::kNot;
}

KernelSigaction VirtualSignals::ApplicationAction(int signo) const {
  KernelSigaction action;
  if (!InRange(signo)) return action;
  if (IsTaken(signo)) return Read(entries_[signo]);
  KernelExchange(signo, nullptr, &action);
  return action;
}

long VirtualSignals::Exchange(int signo, const KernelSigaction* action, KernelSigaction* old,
                              Restorer restorer) {
  Entry& entry = entries_[signo];
  if (action == nullptr) {
    if (old == nullptr) return 0;
    if (IsAnotherProcess(entry)) return ExchangeElsewhere(signo, nullptr, old);
    *old = ApplicationAction(signo);
    return 0;
  }
  // Copied before anything is written: the two may be the same object. A fault here is the application's, as
  // in libc.
  KernelSigaction wanted = *action;
  KernelSigaction before;
  if (restorer == Restorer::kOurs) {
    wanted.flags |= kSaRestorer;
    wanted.restorer = HandlerReturn();
  }
  wanted.flags &= kKnownFlags;
  wanted.mask &= ~(SignalBit(SIGKILL) | SignalBit(SIGSTOP));
  if (!IsTaken(signo)) {
    long result = KernelExchange(signo, &wanted, &before);
    if (result == 0 && old != nullptr) *old = before;
    return result;
  }
  if (entry.hold.load(std::memory_order_relaxed) == Hold::kLeftBehind) {
    before = Read(entry);
    long result = wanted.is_default() ? 0 : KernelExchange(signo, &wanted, nullptr);
    if (result != 0) return result;
    Write(entry, wanted);
    if (!wanted.is_default()) entry.hold.store(Hold::kNot, std::memory_order_release);
    if (old != nullptr) *old = before;
    return 0;
  }
  if (IsAnotherProcess(entry)) return ExchangeElsewhere(signo, &wanted, old);
  bool is_handler = !wanted.is_default() && !wanted.is_ignored();
  bool goes_by_interposer = interposer_ != nullptr && is_handler &&
                            entry.hold.load(std::memory_order_relaxed) == Hold::kWhileDefault;
  if (goes_by_interposer) {  // not under our lock: nobody knows what he does
    long result = InstallByInterposer(signo, wanted);
    if (result != 0) return result;
  }
  {
    AllSignalsBlocked blocked;
    Locked lock(blocked, entry);
    before = Read(entry);
    Hold hold = entry.hold.load(std::memory_order_relaxed);
    if (hold == Hold::kWhileDefault && !goes_by_interposer) {
      KernelSigaction given = ActionFor(hold, entry, wanted);
      long result = KernelExchange(signo, &given, nullptr);
      if (result != 0) return result;
    }
    Write(entry, wanted);
  }
  if (old != nullptr) *old = before;
  if (entry.on_other_action != nullptr && !wanted.is_default()) entry.on_other_action(signo);
  return 0;
}

long VirtualSignals::InstallByInterposer(int signo, const KernelSigaction& wanted) const {
  ErrnoSaver keep;
  struct sigaction action;
  ToLibc(wanted, &action);
  return interposer_(signo, &action, nullptr) == 0 ? 0 : -static_cast<long>(errno);
}

// In a sandbox nothing is taken that this would ask the kernel for.
bool VirtualSignals::IsAnotherProcess(const Entry& entry) const {
  Hold hold = entry.hold.load(std::memory_order_acquire);
  if (hold == Hold::kNot || hold == Hold::kLeftBehind) return false;
  return static_cast<uint32_t>(RawSyscall(SYS_getpid)) != pid_.load(std::memory_order_relaxed);
}

long VirtualSignals::ExchangeElsewhere(int signo, const KernelSigaction* wanted, KernelSigaction* old) const {
  const Entry& entry = entries_[signo];
  KernelSigaction found;
  long result = KernelExchange(signo, wanted, &found);
  if (result == 0 && old != nullptr) *old = IsOurs(found, entry) ? Read(entry) : found;
  return result;
}

bool VirtualSignals::IsOurs(const KernelSigaction& found, const Entry& entry) {
  return found.handler == reinterpret_cast<uintptr_t>(OurHandler(entry)) ||
         found.handler == reinterpret_cast<uintptr_t>(profagent_reset_hand_entry);
}

uintptr_t VirtualSignals::NextHandler(int signo, void* context, bool* would_kill, bool* on_alternate_stack) {
  *would_kill = false;
  Entry& entry = entries_[signo];
  KernelSigaction action = Read(entry);
  if (action.is_ignored()) return 0;
  if (action.is_default()) {
    *would_kill = signo != SIGCHLD && signo != SIGCONT && signo != SIGURG && signo != SIGWINCH &&
                  signo != SIGTSTP && signo != SIGTTIN && signo != SIGTTOU &&
                  RawSyscall(SYS_getpid) != 1;  // which the kernel sends none of these
    return 0;
  }
  if ((action.flags & SA_RESETHAND) != 0) {
    AllSignalsBlocked blocked;
    Locked lock(blocked, entry);
    KernelSigaction now = Read(entry);
    // What another thread has set meanwhile stays.
    if (now.handler == action.handler && now.flags == action.flags) {
      now.handler = 0;
      Write(entry, now);
      KernelSigaction ours = OurAction(entry);
      KernelExchange(signo, &ours, nullptr);
    }
  }
  if (on_alternate_stack != nullptr) *on_alternate_stack = (action.flags & SA_ONSTACK) != 0;
  // In the application's handler the CPU signal is masked for real if it asked for that: ticks wait, and
  // weigh more when they come. Nothing has to be undone, whether the handler returns or jumps out of it.
  uint64_t mask = 0;
  std::memcpy(&mask, &static_cast<ucontext_t*>(context)->uc_sigmask, sizeof mask);
  mask |= action.mask;
  if ((action.flags & SA_NODEFER) == 0) mask |= SignalBit(signo);
  SetSignalMask(mask);
  if ((action.flags & SA_RESTART) == 0) EndRestartedCall(static_cast<ucontext_t*>(context));
  return action.handler;
}

void VirtualSignals::PassOn(int signo, const siginfo_t* info) {
  long pid = RawSyscall(SYS_getpid);
  long tid = RawSyscall(SYS_gettid);
  if (info == nullptr || RawSyscall(SYS_rt_tgsigqueueinfo, pid, tid, signo, info) != 0)
    RawSyscall(SYS_tgkill, pid, tid, signo);
}

void VirtualSignals::DieOf(int signo) {
  KernelSigaction fatal;
  KernelExchange(signo, &fatal, nullptr);
  ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo));
  RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), RawSyscall(SYS_gettid), signo);
  for (;;) RawSyscall(SYS_exit_group, 128 + signo);  // a default action that does not kill
}

bool VirtualSignals::RepairIfReplaced(int signo) {
  if (!IsTaken(signo)) return false;
  Entry& entry = entries_[signo];
  AllSignalsBlocked blocked;
  Locked lock(blocked, entry);
  KernelSigaction found;
  if (KernelExchange(signo, nullptr, &found) != 0) return false;
  if (found.handler == reinterpret_cast<uintptr_t>(OurHandler(entry))) return false;
  bool replaced = entry.hold.load(std::memory_order_relaxed) == Hold::kAlways || found.is_default();
  if (!replaced) return false;  // the application's own, where it belongs
  Write(entry, found);
  KernelSigaction ours = OurAction(entry);
  KernelExchange(signo, &ours, nullptr);
  return true;
}

void VirtualSignals::ShowIgnoredToKernel(int signo) {
  if (!IsTaken(signo)) return;
  Entry& entry = entries_[signo];
  AllSignalsBlocked blocked;
  Locked lock(blocked, entry);
  KernelSigaction action = Read(entry);
  KernelSigaction found;  // a vfork child may have set another
  if (action.is_ignored() && KernelExchange(signo, nullptr, &found) == 0 && IsOurs(found, entry))
    KernelExchange(signo, &action, nullptr);
}

void VirtualSignals::TakeAgain(int signo) {
  if (!IsTaken(signo)) return;
  Entry& entry = entries_[signo];
  AllSignalsBlocked blocked;
  Locked lock(blocked, entry);
  KernelSigaction ours = OurAction(entry);
  if (entry.hold.load(std::memory_order_relaxed) == Hold::kAlways) KernelExchange(signo, &ours, nullptr);
}

void VirtualSignals::Retreat(const AllSignalsBlocked& blocked, uint64_t kept) {
  retreated_.store(true, std::memory_order_release);
  for (int signo = 1; signo < kSignals; ++signo) {
    Entry& entry = entries_[signo];
    Locked lock(blocked, entry);
    entry.hold_outside = entry.hold.load(std::memory_order_relaxed);
    if (entry.hold_outside == Hold::kNot) continue;
    KernelSigaction action = Read(entry);
    bool is_kept = (kept & SignalBit(signo)) != 0 && action.is_default();
    if (!is_kept) KernelExchange(signo, &action, nullptr);
    entry.hold.store(is_kept ? Hold::kLeftBehind : Hold::kNot, std::memory_order_release);
  }
}

void VirtualSignals::Return(const AllSignalsBlocked& blocked) {
  retreated_.store(false, std::memory_order_release);
  for (int signo = 1; signo < kSignals; ++signo) {
    Entry& entry = entries_[signo];
    if (entry.hold_outside == Hold::kNot) continue;
    if (entry.hold.load(std::memory_order_relaxed) == Hold::kLeftBehind) {
      entry.hold.store(entry.hold_outside, std::memory_order_release);
    } else {
      Take(blocked, signo, entry.handler, entry.hold_outside, entry.on_other_action);
    }
    entry.hold_outside = Hold::kNot;
  }
}

void VirtualSignals::NoteProcess() {
  pid_.store(static_cast<uint32_t>(RawSyscall(SYS_getpid)), std::memory_order_relaxed);
}

void VirtualSignals::ResetAfterFork() {
  NoteProcess();
  for (Entry& entry : entries_) {
    entry.locked.store(0, std::memory_order_relaxed);
    if ((entry.version.load(std::memory_order_relaxed) & 1) != 0)
      entry.version.fetch_add(1, std::memory_order_relaxed);
    // The work is the parent's.
    if (entry.hold.load(std::memory_order_relaxed) == Hold::kGuarded)
      Unguard(AllSignalsBlocked(), static_cast<int>(&entry - entries_));
  }
}

}  // namespace profagent
