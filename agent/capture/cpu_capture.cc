#include "agent/capture/cpu_capture.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/signal_text.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/foreign_signals.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

constexpr Nanos kLookInterval{kNanosPerSecond};
constexpr Nanos kSettlingInterval{kNanosPerSecond / 10};

uint32_t OwnTid() { return static_cast<uint32_t>(RawSyscall(SYS_gettid)); }
uint32_t OwnPid() { return static_cast<uint32_t>(RawSyscall(SYS_getpid)); }

}  // namespace

constinit CpuCapture g_cpu_capture;
static_assert(std::is_trivially_destructible_v<CpuCapture> && std::is_trivially_destructible_v<CpuHandler>);

bool CpuCapture::Start(const Settings& settings) {
  settings_ = settings;
  CpuHandler::Settings handler{settings.ledger,      settings.unwinder, &slots_,
                               settings.max_depth,   Period(),          settings.measure_handler,
                               settings.before_death};
  if (!slots_.Start() || !g_cpu_handler.Start(handler)) {
    Log(Verbosity::kErrors, "no CPU profile: no memory for the handler (RLIMIT_AS?)");
    return false;
  }
  g_foreign_signals.Start(&slots_, settings.signo);
  if (!g_virtual_signals.Take(AllSignalsBlocked(), settings.signo, CpuHandler::Entry(),
                              VirtualSignals::Hold::kAlways)) {
    Log(Verbosity::kErrors, "no CPU profile: the kernel refuses a handler for ",
        SignalText(settings.signo).view());
    return false;
  }
  census_.Start(&slots_);
  debts_.Start(settings.ledger, settings.unwinder, Period(), settings.max_depth);
  engines_.Start({settings.ledger, &slots_, &census_, &debts_, &running_, Period(), settings.signo,
                  settings.want_perf_events});
  signo_.store(settings.signo, std::memory_order_release);
  // A mask inherited from the parent process (nohup-like launchers, services): it is the application's view
  // from now on. A signal that the program before this one left pending comes at once.
  g_foreign_signals.Block((ChangeSignalMask(SIG_BLOCK, 0) & SignalBit(settings.signo)) != 0);
  ChangeSignalMask(SIG_UNBLOCK, SignalBit(settings.signo));

  pid_.store(OwnPid(), std::memory_order_relaxed);
  running_.store(true, std::memory_order_release);
  BeginRecording();
  ThreadSlot* mine = AdoptThread(OwnTid());
  if (mine != nullptr) {
    mine->bounds = settings.main_stack;
    mine->start_routine = reinterpret_cast<void*>(getauxval(AT_ENTRY));
    mine->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
    t_state.slot_plus_one = mine->index + 1;
    g_foreign_signals.TellOthers();
    engines_.StartTimer(mine, CpuEngines::Since::kNow);
  }
  LookAround(true);
  return engines_.any();
}

void CpuCapture::BeginRecording() {
  engines_.Begin();
  spent_before_ = ReadClock(CLOCK_PROCESS_CPUTIME_ID);
  LedgerHeader* header = settings_.ledger->header();
  header->cpu_hz.store(settings_.frequency.value, std::memory_order_relaxed);
  header->cpu_start_realtime_ns.store(ReadClock(CLOCK_REALTIME).value, std::memory_order_relaxed);
  header->cpu_start_monotonic_ns.store(ReadClock(CLOCK_MONOTONIC).value, std::memory_order_relaxed);
}

// --- threads

ThreadSlot* CpuCapture::PrepareThread() {
  if (!running()) return nullptr;
  LookAround();
  ThreadSlot* slot = slots_.Acquire();
  if (slot == nullptr) {
    settings_.ledger->Count(Loss::kThreadNotTimed);
    return nullptr;
  }
  census_.ExpectThread();
  return slot;
}

void CpuCapture::AbandonThread(ThreadSlot* slot) {
  slots_.Release(slot);
  census_.ThreadIsKnown();
}

void CpuCapture::BeginThread(ThreadSlot* slot, StackBounds bounds, bool blocks_signal) {
  if (slot != nullptr && !running()) {  // any more: in a sandbox no system call of ours is made
    AbandonThread(slot);
    slot = nullptr;
  }
  if (slot != nullptr) {
    t_state.slot_plus_one = slot->index + 1;
    slot->bounds = bounds;
    slot->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
    slots_.SetNumber(slot, OwnTid());
    // Only now may the census see the thread: it is known.
    census_.ThreadIsKnown();
  }
  if (signo() == 0) return;
  g_foreign_signals.Block(blocks_signal);
  // The mask of its attributes, or its creator's when that was masked behind our back.
  uint64_t bit = SignalBit(signo());
  uint64_t mask = ChangeSignalMask(SIG_UNBLOCK, bit);
  t_state.blocks_beside = blocks_signal ? mask & ~bit : 0;
  if (slot != nullptr) {
    ReadName(slot);
    engines_.StartTimer(slot, CpuEngines::Since::kBirth);
  }
  g_foreign_signals.LetThrough();
}

void CpuCapture::EndThread() {
  ThreadSlot* slot = slots_.OfThisThread();
  if (slot == nullptr || signo() == 0 || !IsThisProcess()) return;  // 0: in a sandbox
  g_foreign_signals.EndThread();
  if (!running()) return;
  HoldThisThread();
  debts_.SettleEndingThread(slot);
  ReleaseThisThread();  // the timer runs on: destructors of thread-local objects are still to come
}

void CpuCapture::EnterInLedger(ThreadSlot* slot) {
  uint32_t tid = slot->tid.load(std::memory_order_relaxed);
  if (slot->record == nullptr) {
    slot->record = settings_.ledger->AddThread(tid, kNoText);
  } else {
    slot->record->tid = tid;
    slot->record->name.store(0, std::memory_order_relaxed);
  }
}

void CpuCapture::SetName(ThreadSlot* slot, std::string_view name) {
  uint64_t words[ThreadSlot::kNameWords] = {};
  std::memcpy(words, name.data(), std::min(name.size(), sizeof words - 1));
  for (size_t i = 0; i < ThreadSlot::kNameWords; ++i) slot->name_words[i].store(words[i]);
  slot->name.store(0);  // behind them: NameOf looks at them again when it has set it
}

void CpuCapture::ReadName(ThreadSlot* slot) {
  char name[64] = {};
  uint32_t tid = slot->tid.load(std::memory_order_relaxed);
  size_t size = 0;
  if (tid == OwnTid()) {
    if (RawSyscall(SYS_prctl, PR_GET_NAME, name, 0, 0, 0) == 0) size = strnlen(name, sizeof name);
  } else {
    FixedText<64> path;
    path.Add("/proc/self/task/", tid, "/comm");
    long fd = RawSyscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      long read = RawSyscall(SYS_read, fd, name, sizeof name);
      RawSyscall(SYS_close, fd);
      size = read > 0 ? static_cast<size_t>(read) : 0;
      if (size > 0 && name[size - 1] == '\n') --size;
    }
  }
  SetName(slot, {name, size});
  EnterInLedger(slot);
}

void CpuCapture::RenameThread(uintptr_t pthread, std::string_view name) {
  if (!running() || !IsThisProcess()) return;
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    SlotUse use = slot->use.load(std::memory_order_acquire);
    if ((use == SlotUse::kTimed || use == SlotUse::kUntimed) && slot->pthread == pthread) SetName(slot, name);
  }
}

// A thread that was not made through us: there before the agent, or by raw clone. Its stack is not known.
ThreadSlot* CpuCapture::AdoptThread(uint32_t tid) {
  ThreadSlot* slot = slots_.Acquire();
  if (slot == nullptr) {
    settings_.ledger->Count(Loss::kThreadNotTimed);
    return nullptr;
  }
  slots_.SetNumber(slot, tid);
  ReadName(slot);
  return slot;
}

void CpuCapture::FindNewThreads(const ThreadCensus::Turn& turn) {
  census_.ForEachNewThread(turn, [this](uint32_t tid) {
    ThreadSlot* slot = AdoptThread(tid);
    if (slot != nullptr) engines_.StartTimer(slot, CpuEngines::Since::kNow);
    return slot != nullptr;
  });
}

void CpuCapture::LookAround(bool now) {
  if (!running() || !IsThisProcess()) return;
  uint64_t time = ReadClock(CLOCK_MONOTONIC_COARSE).value;
  bool due = now || time >= next_look_ns_.load(std::memory_order_relaxed);
  if (!due && !census_.IsCrowded()) return;
  // A signal handler of the application's that creates a thread finds its own thread looking, and goes on.
  ThreadCensus::Turn turn = census_.TryTakeTurn();
  if (!turn) return;
  next_look_ns_.store(time + kLookInterval.value, std::memory_order_relaxed);
  engines_.CollectDead(turn);
  if (due) {
    FindNewThreads(turn);
    NoticeReplacedHandler();
  }
}

void CpuCapture::NoticeReplacedHandler() {
  if (!g_virtual_signals.RepairIfReplaced(signo())) return;
  settings_.ledger->Count(Loss::kHandlerReplaced);
  if (said_replaced_.exchange(true)) return;
  Log(Verbosity::kErrors, "the program replaced the handler of the CPU signal (", signo(),
      ") by a raw system call; samples were lost. PROFAGENT_CPU_SIGNAL chooses another signal");
}

// A thread that nobody announced, and that ended before anybody looked, shows in the process' clock alone. All others were settled.
void CpuCapture::CountTimeNotSeen() {
  constexpr uint64_t kLeastPeriods = 20;
  uint64_t period = Period().value;
  uint64_t spent = (ReadClock(CLOCK_PROCESS_CPUTIME_ID) - spent_before_).value / period;
  uint64_t seen = settings_.ledger->header()->cpu_ticks.load(std::memory_order_relaxed);
  if (spent <= seen + kLeastPeriods) return;
  uint64_t unseen = spent - seen;
  // Samples are within 5 % of what was spent (10 of threads of 0.3 ms), and each thread's within a period. Of many that have ended
  // the periods are no small part.
  bool few_threads = unseen > kLeastPeriods + slots_.births() && engines_.measures_each_thread();
  if (unseen > slots_.in_use() + kLeastPeriods && unseen > spent / (few_threads ? 20 : 5))
    settings_.ledger->Count(Loss::kTimeNotSeen, unseen);
}

void CpuCapture::Settle(ThreadSlot* slot, bool is_calling_thread) {
  if (is_forked_ && is_calling_thread) return debts_.SettleHere(slot);
  debts_.Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
}

void CpuCapture::SettleAll() {
  if (!running()) return;
  uint64_t time = ReadClock(CLOCK_MONOTONIC_COARSE).value;
  if (time < next_settling_ns_.load(std::memory_order_relaxed)) return;
  next_settling_ns_.store(time + kSettlingInterval.value, std::memory_order_relaxed);
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    if (slot->use.load(std::memory_order_acquire) == SlotUse::kTimed)  // acquire: who timed it filled it
      debts_.Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
  }
}

void CpuCapture::Stop() {
  if (!running_.exchange(false, std::memory_order_seq_cst)) return;
  if (settings_.ledger->is_open()) NoticeReplacedHandler();
  const ThreadSlot* mine = slots_.OfThisThread();
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    if (slot->use.load(std::memory_order_seq_cst) != SlotUse::kTimed) continue;
    if (CpuEngines::LostItsEvent(*slot))
      settings_.ledger->Count(Loss::kThreadNotTimed);  // since when, nobody knows
    engines_.StopTimer(slot);
    Settle(slot, slot == mine);
  }
  engines_.StopProcessTimer();
  if (settings_.ledger->is_open()) {
    CountTimeNotSeen();
    settings_.ledger->header()->cpu_stop_monotonic_ns.store(ReadClock(CLOCK_MONOTONIC).value,
                                                            std::memory_order_relaxed);
  }
}

void* CpuCapture::SpareStack(size_t size) {
  if (SlotHere() == nullptr) LookAround(true);  // which finds it, and has ticks come to that stack
  ThreadSlot* slot = SlotHere();
  if (slot == nullptr) return nullptr;
  if (slot->spare_stack == nullptr || slot->spare_stack_size < size) {
    long memory =
        RawSyscall(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (SyscallError(memory) != 0) return nullptr;
    // A smaller one may be in use at this moment; it goes with the thread's address space.
    slot->spare_stack = reinterpret_cast<void*>(memory);
    slot->spare_stack_size = size;
  }
  return slot->spare_stack;
}

uintptr_t CpuCapture::SayAlternateStack(uintptr_t start) {
  ThreadSlot* slot = slots_.OfThisThread();
  return slot != nullptr ? slot->alternate_stack.exchange(start, std::memory_order_seq_cst) : 0;
}

bool CpuCapture::HasOtherThreadAlternateStack(uintptr_t start) {
  const ThreadSlot* mine = slots_.OfThisThread();
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    const ThreadSlot* slot = slots_.At(i);
    if (slot == mine || slot->alternate_stack.load(std::memory_order_seq_cst) != start) continue;
    if (slot->use.load(std::memory_order_relaxed) == SlotUse::kFree) continue;
    // The dead are not collected at once.
    if (RawSyscall(SYS_tgkill, OwnPid(), slot->tid.load(std::memory_order_relaxed), 0) == 0) return true;
  }
  return false;
}

// --- fork, exec, signals of the application

void CpuCapture::HoldThisThread() {
  if (signo() == 0) return;
  if (t_state.hold_depth++ == 0) t_state.mask_before = ChangeSignalMask(SIG_BLOCK, SignalBit(signo()));
}

void CpuCapture::ReleaseThisThread() {
  if (signo() == 0 || t_state.hold_depth == 0) return;
  if (--t_state.hold_depth == 0 && (t_state.mask_before & SignalBit(signo())) == 0) {
    ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo()));
    g_foreign_signals.LetThrough();
  }
}

// Of a thread that was found, not made through us, too: it does not know its slot.
ThreadSlot* CpuCapture::SlotHere() {
  ThreadSlot* mine = slots_.OfThisThread();
  return mine != nullptr ? mine : slots_.NewestOf(OwnTid());
}

void CpuCapture::PauseThisThreadForExec() {
  if (signo() == 0) return;
  uint64_t bit = SignalBit(signo());
  if (!IsThisProcess()) {  // a vfork child: no timers, but a mask and dispositions of its own
    MakeMaskReal();
    g_virtual_signals.ShowIgnoredToKernel(signo());
    return;
  }
  HoldThisThread();
  if (ThreadSlot* slot = SlotHere()) {
    Settle(slot, true);
    engines_.StopTimer(slot);
  }
  engines_.StopProcessTimer();

  // Ours are swallowed. One that is the application's would have outlived exec: it is put back.
  siginfo_t info;
  siginfo_t foreign;
  bool found_foreign = t_state.asked_to_block && g_foreign_signals.TakeWhatWaits(&foreign);
  struct timespec no_time = {};
  while (RawSyscall(SYS_rt_sigtimedwait, &bit, &info, &no_time, sizeof bit) == signo()) {
    if (!g_cpu_handler.IsOurs(info)) {
      foreign = info;
      found_foreign = true;
    }
  }
  if (found_foreign) RawSyscall(SYS_rt_tgsigqueueinfo, OwnPid(), OwnTid(), signo(), &foreign);
  g_virtual_signals.ShowIgnoredToKernel(signo());
  bool handler_blocks = (t_state.mask_before & bit) != 0;  // one of the application's, which execs
  if (!t_state.asked_to_block && !handler_blocks) ChangeSignalMask(SIG_UNBLOCK, bit);
}

void CpuCapture::ResumeAfterFailedExec() {
  if (signo() == 0 || !IsThisProcess()) return;  // what a vfork child shows, it shows for good
  g_virtual_signals.TakeAgain(signo());
  if (running()) engines_.Resume(SlotHere());
  ReleaseThisThread();
}

void CpuCapture::Retreat() {
  if (signo() == 0) return;
  const ThreadSlot* mine = SlotHere();
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    bool timed = slot->use.load(std::memory_order_acquire) == SlotUse::kTimed;
    slot->timed_outside.store(timed && slot != mine, std::memory_order_relaxed);
  }
  ran_outside_ = running();
  PauseThisThreadForExec();
  if (IsThisProcess()) Stop();
  running_.store(false, std::memory_order_release);
  signo_outside_ = signo_.exchange(0, std::memory_order_acq_rel);
}

void CpuCapture::Return() {
  if (signo_outside_ == 0) return;
  signo_.store(signo_outside_, std::memory_order_release);
  if (ran_outside_) {
    running_.store(true, std::memory_order_release);
    settings_.ledger->header()->cpu_stop_monotonic_ns.store(0, std::memory_order_relaxed);
    for (uint32_t i = 0; i < slots_.limit(); ++i) {
      ThreadSlot* slot = slots_.At(i);
      bool stopped = slot->timed_outside.exchange(false, std::memory_order_relaxed) &&
                     slot->use.load(std::memory_order_acquire) == SlotUse::kUntimed;
      if (stopped) engines_.StartTimer(slot, CpuEngines::Since::kNow);
    }
  }
  ResumeAfterFailedExec();
  LookAround(true);  // threads that began meanwhile
}

void CpuCapture::ShowSignalToChild() {
  if (signo() == 0 || !IsThisProcess()) return;
  if (t_state.asked_to_block) HoldThisThread();
  g_virtual_signals.ShowIgnoredToKernel(signo());
}

void CpuCapture::HideSignalAgain() {
  if (signo() == 0 || !IsThisProcess()) return;
  g_virtual_signals.TakeAgain(signo());
  if (t_state.asked_to_block) ReleaseThisThread();
}

void CpuCapture::MakeMaskReal() {
  uint32_t pid = OwnPid();
  if (t_state.real_mask_pid == pid) return;
  t_state.real_mask_pid = pid;
  if (t_state.asked_to_block) ChangeSignalMask(SIG_BLOCK, SignalBit(signo()));
}

void CpuCapture::RestartInForkedChild(bool record) {
  if (signo() == 0) return;
  ThreadSlot* mine = slots_.OfThisThread();
  StackBounds bounds = mine != nullptr ? mine->bounds : StackBounds{};
  void* start_routine = mine != nullptr ? mine->start_routine : nullptr;
  void* spare_stack = mine != nullptr ? mine->spare_stack : nullptr;
  size_t spare_stack_size = mine != nullptr ? mine->spare_stack_size : 0;
  uintptr_t alternate_stack = SayAlternateStack(0);
  engines_.Forget();
  is_forked_ = true;
  slots_.Reset();
  census_.Reset();
  debts_.Forget();
  g_cpu_handler.Reset();
  g_foreign_signals.ResetAfterFork();
  next_look_ns_.store(0, std::memory_order_relaxed);
  t_state.slot_plus_one = 0;
  pid_.store(OwnPid(), std::memory_order_relaxed);
  bool was_running = running_.exchange(false);
  if (was_running && record) {
    BeginRecording();
    running_.store(true, std::memory_order_release);
    mine = AdoptThread(OwnTid());
    if (mine != nullptr) {
      mine->bounds = bounds;
      mine->start_routine = start_routine;
      mine->spare_stack = spare_stack;
      mine->spare_stack_size = spare_stack_size;
      mine->alternate_stack.store(alternate_stack, std::memory_order_relaxed);
      mine->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
      t_state.slot_plus_one = mine->index + 1;
      g_foreign_signals.TellOthers();
      engines_.StartTimer(mine, CpuEngines::Since::kBirth);
    }
  }
  ReleaseThisThread();
  // What our own work took has been sampled by now, at this stack, which is not to blame for what the child does next.
  if (running() && mine != nullptr) mine->last_stack.store(0, std::memory_order_relaxed);
  if (!running()) LeaveSignalToApplication();
}

// In a forked child that is not recorded. Nothing of ours is on its way: neither timers nor pending signals are inherited.
void CpuCapture::LeaveSignalToApplication() {
  if (t_state.asked_to_block) ChangeSignalMask(SIG_BLOCK, SignalBit(signo()));
  t_state.asked_to_block = false;
  g_virtual_signals.GiveBack(signo());
  signo_.store(0, std::memory_order_release);
}

bool CpuCapture::IsThisProcess() const { return pid_.load(std::memory_order_relaxed) == OwnPid(); }

bool CpuCapture::CountIfOurs(const siginfo_t& info) {
  if (!g_cpu_handler.IsOurs(info)) return false;
  if (g_foreign_signals.IsOffer(info)) return true;
  ThreadSlot* slot = slots_.OfThisThread();
  uint64_t ticks =
      info.si_code == SI_TIMER && info.si_overrun > 0 ? 1 + static_cast<uint64_t>(info.si_overrun) : 1;
  if (slot != nullptr && running()) {
    StackId stack{slot->last_stack.load(std::memory_order_relaxed)};
    g_cpu_handler.Charge(*slot, stack, g_cpu_handler.NameOf(*slot), ticks);
  }
  return true;
}

}  // namespace profagent
