#include "agent/capture/cpu_capture.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <type_traits>

#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/scramble.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/perf_events.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

constexpr Nanos kLookInterval{kNanosPerSecond};

enum Said : uint32_t { kSaidRefused = 1, kSaidReplaced = 2 };

uint32_t OwnTid() { return static_cast<uint32_t>(RawSyscall(SYS_gettid)); }
uint32_t OwnPid() { return static_cast<uint32_t>(RawSyscall(SYS_getpid)); }

PerfEvent EventOf(const ThreadSlot& slot) {
  return {slot.perf_fd.load(std::memory_order_acquire), slot.perf_id, slot.perf_user_time_only};
}

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
  if (!g_virtual_signals.Take(AllSignalsBlocked(), settings.signo, CpuHandler::Entry(),
                              VirtualSignals::Hold::kAlways)) {
    Log(Verbosity::kErrors, "no CPU profile: the kernel refuses a handler for signal ", settings.signo);
    return false;
  }
  census_.Start(&slots_);
  debts_.Start(settings.ledger, settings.unwinder, Period());
  signo_.store(settings.signo, std::memory_order_release);
  // A mask inherited from the parent process (nohup-like launchers, services): it is the application's view
  // from now on.
  uint64_t before = ChangeSignalMask(SIG_UNBLOCK, SignalBit(settings.signo));
  t_state.asked_to_block = (before & SignalBit(settings.signo)) != 0;

  pid_.store(OwnPid(), std::memory_order_relaxed);
  running_.store(true, std::memory_order_release);
  BeginRecording();
  ThreadSlot* mine = AdoptThread(OwnTid());
  if (mine != nullptr) {
    mine->bounds = settings.main_stack;
    mine->start_routine = reinterpret_cast<void*>(getauxval(AT_ENTRY));
    mine->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
    t_state.slot_plus_one = mine->index + 1;
    StartTimer(mine, Since::kNow);
  }
  LookAround(true);
  return engine_.load(std::memory_order_relaxed) != Engine::kNone;
}

void CpuCapture::BeginRecording() {
  uint64_t seed = 0;
  RawSyscall(SYS_getrandom, &seed, sizeof seed, 1);
  seed ^= ReadClock(CLOCK_MONOTONIC).value ^ static_cast<uint64_t>(OwnPid()) << 32;
  random_.store(seed, std::memory_order_relaxed);
  Use(settings_.want_perf_events ? Engine::kPerfEvents : Engine::kThreadTimers);
  LedgerHeader* header = settings_.ledger->header();
  header->cpu_hz.store(settings_.frequency.value, std::memory_order_relaxed);
  header->cpu_start_realtime_ns.store(ReadClock(CLOCK_REALTIME).value, std::memory_order_relaxed);
  header->cpu_start_monotonic_ns.store(ReadClock(CLOCK_MONOTONIC).value, std::memory_order_relaxed);
}

Nanos CpuCapture::RandomPhase() {
  uint64_t draw = Scramble(random_.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed));
  return Nanos(1 + static_cast<uint64_t>(static_cast<unsigned __int128>(draw) * Period().value >> 64));
}

ThreadSlot* CpuCapture::ThisThread() {
  uint32_t slot = t_state.slot_plus_one;
  return slot != 0 ? slots_.At(slot - 1) : nullptr;
}

// --- threads
// -------------------------------------------------------------------------------------------------

ThreadSlot* CpuCapture::PrepareThread() {
  if (!running()) return nullptr;
  LookAround();
  ThreadSlot* slot = slots_.Acquire();
  if (slot == nullptr) {
    settings_.ledger->Count(Loss::kThreadNotTimed);
    return nullptr;
  }
  census_.ExpectThread();
  slot->started_with_signal_blocked = t_state.asked_to_block;
  return slot;
}

void CpuCapture::AbandonThread(ThreadSlot* slot) {
  slots_.Release(slot);
  census_.ThreadIsKnown();
}

void CpuCapture::BeginThread(ThreadSlot* slot, StackBounds bounds) {
  t_state.slot_plus_one = slot->index + 1;
  t_state.asked_to_block = slot->started_with_signal_blocked;
  slot->bounds = bounds;
  slot->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  slot->tid.store(OwnTid(), std::memory_order_seq_cst);
  // Only now may the census see the thread: it is known.
  census_.ThreadIsKnown();
  // The mask of its attributes, or its creator's when that was masked behind our back.
  ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo()));
  ReadName(slot);
  StartTimer(slot, Since::kBirth);
}

void CpuCapture::EndThread() {
  ThreadSlot* slot = ThisThread();
  if (slot == nullptr || !running() || !IsThisProcess()) return;
  HoldThisThread();
  debts_.SettleEndingThread(slot);
  ReleaseThisThread();  // the timer runs on: destructors of thread-local objects are still to come
}

void CpuCapture::EnterInLedger(ThreadSlot* slot, std::string_view name) {
  TextId text = settings_.ledger->InternText(name);
  slot->name.store(text.value, std::memory_order_relaxed);
  if (slot->record == nullptr) {
    slot->record = settings_.ledger->AddThread(slot->tid.load(std::memory_order_relaxed), text);
  } else {
    slot->record->name.store(text.value, std::memory_order_relaxed);
  }
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
  EnterInLedger(slot, {name, size});
}

void CpuCapture::RenameThread(uintptr_t pthread, std::string_view name) {
  if (!running()) return;
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    SlotUse use = slot->use.load(std::memory_order_acquire);
    if ((use == SlotUse::kTimed || use == SlotUse::kUntimed) && slot->pthread == pthread)
      EnterInLedger(slot, name);
  }
}

// A thread that was not made through us: there before the agent, or by raw clone. Its stack is not known.
ThreadSlot* CpuCapture::AdoptThread(uint32_t tid) {
  ThreadSlot* slot = slots_.Acquire();
  if (slot == nullptr) {
    settings_.ledger->Count(Loss::kThreadNotTimed);
    return nullptr;
  }
  slot->tid.store(tid, std::memory_order_seq_cst);
  ReadName(slot);
  return slot;
}

void CpuCapture::FindNewThreads(const ThreadCensus::Turn& turn) {
  census_.ForEachNewThread(turn, [this](uint32_t tid) {
    ThreadSlot* slot = AdoptThread(tid);
    if (slot != nullptr) StartTimer(slot, Since::kNow);
    return slot != nullptr;
  });
}

void CpuCapture::CollectDead(const ThreadCensus::Turn& turn) {
  auto bury = [this](ThreadSlot* slot) {
    StopTimer(slot);
    if (slot->spare_stack != nullptr) RawSyscall(SYS_munmap, slot->spare_stack, slot->spare_stack_size);
    slots_.Release(slot);
  };
  auto visit = [this](ThreadSlot* slot) {
    PerfEvent event = EventOf(*slot);
    bool timed = slot->use.load(std::memory_order_acquire) == SlotUse::kTimed;
    if (timed && event.fd >= 0 && !IsStillOurs(event)) ReplaceLostEvent(slot);
  };
  census_.ForEachSlot(turn, bury, visit);
}

// The application closed the event's descriptor (closefrom): from here on timers do the work, of all threads.
void CpuCapture::ReplaceLostEvent(ThreadSlot* slot) {
  Engine perf = Engine::kPerfEvents;
  if (engine_.compare_exchange_strong(perf, Engine::kSwitching, std::memory_order_acq_rel)) {
    Use(Engine::kThreadTimers);
    Log(Verbosity::kErrors, "the program closed the descriptors of perf events; using timers");
  }
  StopTimer(slot);
  StartTimer(slot, Since::kNow);
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
  CollectDead(turn);
  if (due) {
    FindNewThreads(turn);
    NoticeReplacedHandler();
  }
}

void CpuCapture::NoticeReplacedHandler() {
  if (!g_virtual_signals.RepairIfReplaced(signo())) return;
  settings_.ledger->Count(Loss::kHandlerReplaced);
  if ((said_.fetch_or(kSaidReplaced) & kSaidReplaced) != 0) return;
  Log(Verbosity::kErrors, "the program replaced the handler of the CPU signal (", signo(),
      ") by a raw system call; samples were lost. PROFAGENT_CPU_SIGNAL chooses another signal");
}

// --- timers
// --------------------------------------------------------------------------------------------------

void CpuCapture::StartTimer(ThreadSlot* slot, Since since) {
  Nanos phase = RandomPhase();
  clockid_t clock = ThreadCpuClock(slot->tid.load(std::memory_order_relaxed));
  Nanos first = since == Since::kBirth ? phase : ReadClock(clock) + phase;
  slot->first_expiry_ns.store(first.value, std::memory_order_relaxed);
  slot->ticks.store(0, std::memory_order_relaxed);
  slot->prepaid.store(0, std::memory_order_relaxed);
  // What is refused makes room for the next engine: at most three rounds.
  for (;;) {
    Engine engine = engine_.load(std::memory_order_acquire);
    if (engine == Engine::kPerfEvents && StartPerfEvent(slot, phase)) return;
    if (engine == Engine::kThreadTimers && StartThreadTimer(slot, first)) return;
    if (engine == engine_.load(std::memory_order_acquire)) break;
  }
  slot->first_expiry_ns.store(
      0, std::memory_order_relaxed);  // no account: what serves all threads counts its time
  SlotUse starting = SlotUse::kStarting;
  slot->use.compare_exchange_strong(starting, SlotUse::kUntimed, std::memory_order_release);
}

void CpuCapture::Use(Engine engine) {
  CpuEngine shown = CpuEngine::kNone;
  if (engine == Engine::kThreadTimers) shown = CpuEngine::kThreadTimers;
  if (engine == Engine::kProcessTimer) shown = CpuEngine::kProcessTimer;
  if (engine == Engine::kPerfEvents) shown = CpuEngine::kPerfEvents;
  settings_.ledger->header()->cpu_engine.store(static_cast<uint32_t>(shown), std::memory_order_relaxed);
  engine_.store(engine, std::memory_order_seq_cst);
}

bool CpuCapture::StartPerfEvent(ThreadSlot* slot, Nanos phase) {
  PerfEvent event = OpenPerfEvent(slot->tid.load(std::memory_order_relaxed), signo(), phase);
  if (event.fd < 0) {
    if (event.fd != -ESRCH) LeavePerfEvents(-event.fd);
    return false;
  }
  g_cpu_handler.ExpectPerfEvents();
  slot->perf_id = event.id;
  slot->perf_user_time_only = event.user_time_only;
  slot->perf_first.store(true, std::memory_order_relaxed);
  slot->perf_fd.store(event.fd, std::memory_order_release);
  slot->use.store(SlotUse::kTimed, std::memory_order_release);
  EnablePerfEvent(event);
  slot->armed.store(true, std::memory_order_release);
  if (!running()) StopTimer(slot);
  return true;
}

// Refused to the first thread: timers do the work. Refused to a later one (its descriptors are used up): that
// one thread is missing, for a timer beside the events of others would be an engine of its own to keep apart.
void CpuCapture::LeavePerfEvents(int error) {
  bool in_use = false;
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    in_use |= slots_.At(i)->perf_fd.load(std::memory_order_relaxed) != kNoDescriptor;
  }
  Engine perf = Engine::kPerfEvents;
  if (in_use) {
    LeaveUntimed(error, "perf_event_open");
  } else if (!settings_.want_perf_events) {
    if (engine_.compare_exchange_strong(perf, Engine::kNone, std::memory_order_acq_rel)) Use(Engine::kNone);
  } else if (engine_.compare_exchange_strong(perf, Engine::kSwitching, std::memory_order_acq_rel)) {
    Log(Verbosity::kErrors, "perf events are refused (errno ", error, "); using timers");
    Use(Engine::kThreadTimers);
  }
}

bool CpuCapture::StartThreadTimer(ThreadSlot* slot, Nanos first) {
  uint32_t tid = slot->tid.load(std::memory_order_relaxed);
  TimerTarget target{ThreadCpuClock(tid), tid, signo(), slots_.SignalValue(*slot)};
  int32_t timer = CreateTimer(target);
  if (timer == -EAGAIN) {
    if (ThreadCensus::Turn turn = census_.TryTakeTurn()) {
      CollectDead(turn);  // timers of dead threads count against the limit
      timer = CreateTimer(target);
    }
  }
  if (timer < 0) {
    bool ended = timer == -EINVAL && SyscallError(RawSyscall(SYS_tgkill, OwnPid(), tid, 0)) == ESRCH;
    if (!ended) LeaveThreadTimers(-timer);
    return false;
  }
  slot->timer_id.store(timer, std::memory_order_seq_cst);
  slot->use.store(SlotUse::kTimed, std::memory_order_seq_cst);
  ArmTimer(timer, first, Period());
  slot->armed.store(true, std::memory_order_release);
  // Stop, or a switch to the process timer, swept over the slots before this timer was among them.
  if (!running() || engine_.load(std::memory_order_seq_cst) != Engine::kThreadTimers) StopTimer(slot);
  return true;
}

void CpuCapture::LeaveUntimed(int error, const char* refused) {
  settings_.ledger->Count(Loss::kThreadNotTimed);
  if ((said_.fetch_or(kSaidRefused) & kSaidRefused) == 0) {
    Log(Verbosity::kErrors, refused, " is refused (errno ", error,
        "); threads are missing from the CPU profile");
  }
}

// Late signals of the timer are stale from here on; what they stood for is settled or given up.
void CpuCapture::StopTimer(ThreadSlot* slot) {
  SlotUse timed = SlotUse::kTimed;
  slot->use.compare_exchange_strong(timed, SlotUse::kUntimed, std::memory_order_seq_cst);
  slot->armed.store(false, std::memory_order_relaxed);
  int32_t timer = slot->timer_id.exchange(kNoTimer, std::memory_order_acq_rel);
  if (timer != kNoTimer) DeleteTimer(timer);
  PerfEvent event = EventOf(*slot);
  if (slot->perf_fd.exchange(kNoDescriptor, std::memory_order_acq_rel) >= 0) ClosePerfEvent(event);
}

// One thread's timer was refused, so all of them go: the process timer counts every thread's time, and beside
// thread timers it would count some of it twice. Where even that is refused, perf events may not be.
void CpuCapture::LeaveThreadTimers(int error) {
  Engine timers = Engine::kThreadTimers;
  if (!engine_.compare_exchange_strong(timers, Engine::kSwitching, std::memory_order_seq_cst)) return;
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    if (slot->use.load(std::memory_order_seq_cst) != SlotUse::kTimed) continue;
    StopTimer(slot);
    debts_.Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
    slot->first_expiry_ns.store(0, std::memory_order_relaxed);
  }
  const char* reason = error == EAGAIN ? " (RLIMIT_SIGPENDING, ulimit -i)" : "";
  if (error == EAGAIN) {
    settings_.ledger->Count(Loss::kTimerLimit);
    if (StartProcessTimer()) {
      Use(Engine::kProcessTimer);
      Log(Verbosity::kErrors, "a timer a thread is refused", reason,
          "; one timer serves the process, and which thread it samples is the kernel's choice");
      return;
    }
  }
  bool tried = settings_.want_perf_events;  // and was refused, or timers would not be in use
  if (!tried) {
    Use(Engine::kPerfEvents);
    for (uint32_t i = 0; i < slots_.limit(); ++i) {
      ThreadSlot* slot = slots_.At(i);
      if (slot->use.load(std::memory_order_acquire) == SlotUse::kUntimed) StartTimer(slot, Since::kNow);
    }
  } else {
    Use(Engine::kNone);
  }
  // The thread that asked is perhaps the first and not among them yet.
  PerfEvent probe = tried ? PerfEvent{} : OpenPerfEvent(OwnTid(), signo(), Period());
  ClosePerfEvent(probe);
  if (probe.fd >= 0) {
    Log(Verbosity::kErrors, "timer_create is refused (errno ", error, ")", reason, "; using perf events");
    return;
  }
  Use(Engine::kNone);
  settings_.ledger->Count(Loss::kThreadNotTimed);
  Log(Verbosity::kErrors, "no CPU profile: timer_create is refused (errno ", error, ")", reason,
      ", and so are perf events");
}

bool CpuCapture::StartProcessTimer() {
  ThreadSlot& account = g_cpu_handler.process_account();
  Nanos first = ReadClock(CLOCK_PROCESS_CPUTIME_ID) + RandomPhase();
  account.first_expiry_ns.store(first.value, std::memory_order_relaxed);
  account.ticks.store(0, std::memory_order_relaxed);
  account.prepaid.store(0, std::memory_order_relaxed);
  int32_t timer = CreateTimer({CLOCK_PROCESS_CPUTIME_ID, 0, signo(), slots_.ProcessTimerValue()});
  if (timer < 0) return false;
  process_timer_.store(timer, std::memory_order_release);
  account.armed.store(true, std::memory_order_relaxed);
  return ArmTimer(timer, first, Period());
}

void CpuCapture::StopProcessTimer() {
  int32_t timer = process_timer_.exchange(kNoTimer, std::memory_order_acq_rel);
  if (timer == kNoTimer) return;
  DeleteTimer(timer);
  debts_.Settle(&g_cpu_handler.process_account(), CLOCK_PROCESS_CPUTIME_ID);
}

void CpuCapture::Stop() {
  if (!running_.exchange(false, std::memory_order_seq_cst)) return;
  if (settings_.ledger->is_open()) NoticeReplacedHandler();
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    if (slot->use.load(std::memory_order_seq_cst) != SlotUse::kTimed) continue;
    PerfEvent event = EventOf(*slot);
    if (event.fd >= 0 && !IsStillOurs(event))
      settings_.ledger->Count(Loss::kThreadNotTimed);  // since when, nobody knows
    StopTimer(slot);
    debts_.Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
  }
  StopProcessTimer();
  if (settings_.ledger->is_open()) {
    settings_.ledger->header()->cpu_stop_monotonic_ns.store(ReadClock(CLOCK_MONOTONIC).value,
                                                            std::memory_order_relaxed);
  }
}

void* CpuCapture::SpareStack(size_t size) {
  ThreadSlot* slot = ThisThread();
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

// --- fork, exec, signals of the application
// --------------------------------------------------------------------

void CpuCapture::HoldThisThread() {
  if (signo() == 0) return;
  if (t_state.hold_depth++ == 0) t_state.mask_before = ChangeSignalMask(SIG_BLOCK, SignalBit(signo()));
}

void CpuCapture::ReleaseThisThread() {
  if (signo() == 0 || t_state.hold_depth == 0) return;
  if (--t_state.hold_depth == 0 && (t_state.mask_before & SignalBit(signo())) == 0) {
    ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo()));
  }
}

void CpuCapture::PauseThisThreadForExec() {
  if (signo() == 0) return;
  uint64_t bit = SignalBit(signo());
  if (!IsThisProcess()) {  // a vfork child: no timers, but a mask of its own
    if (t_state.asked_to_block) ChangeSignalMask(SIG_BLOCK, bit);
    return;
  }
  HoldThisThread();
  if (ThreadSlot* slot = ThisThread()) {
    debts_.Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
    StopTimer(slot);
  }
  StopProcessTimer();

  // Ours are swallowed. One that is the application's would have outlived exec: it is put back.
  siginfo_t info;
  siginfo_t foreign;
  bool found_foreign = t_state.holds_signal;
  if (found_foreign) foreign = t_state.held;
  struct timespec no_time = {};
  while (RawSyscall(SYS_rt_sigtimedwait, &bit, &info, &no_time, sizeof bit) == signo()) {
    if (!IsOurs(info)) {
      foreign = info;
      found_foreign = true;
    }
  }
  if (found_foreign) RawSyscall(SYS_rt_tgsigqueueinfo, OwnPid(), OwnTid(), signo(), &foreign);
  g_virtual_signals.ShowIgnoredToKernel(signo());
  if (!t_state.asked_to_block) ChangeSignalMask(SIG_UNBLOCK, bit);
}

void CpuCapture::ResumeAfterFailedExec() {
  if (signo() == 0) return;
  uint64_t bit = SignalBit(signo());
  if (!IsThisProcess()) {
    ChangeSignalMask(SIG_UNBLOCK, bit);
    return;
  }
  g_virtual_signals.TakeAgain(signo());
  if (running()) {
    if (engine_.load(std::memory_order_acquire) == Engine::kProcessTimer) {
      StartProcessTimer();
    } else if (ThreadSlot* slot = ThisThread()) {
      StartTimer(slot, Since::kNow);
    }
  }
  if (t_state.hold_depth > 0) --t_state.hold_depth;
  if (t_state.hold_depth == 0) ChangeSignalMask(SIG_UNBLOCK, bit);
}

void CpuCapture::RestartInForkedChild(bool record) {
  if (signo() == 0) return;
  ThreadSlot* mine = ThisThread();
  StackBounds bounds = mine != nullptr ? mine->bounds : StackBounds{};
  void* start_routine = mine != nullptr ? mine->start_routine : nullptr;
  void* spare_stack = mine != nullptr ? mine->spare_stack : nullptr;
  size_t spare_stack_size = mine != nullptr ? mine->spare_stack_size : 0;
  for (uint32_t i = 0; i < slots_.limit(); ++i) {
    ThreadSlot* slot = slots_.At(i);
    PerfEvent event = slot != nullptr ? EventOf(*slot) : PerfEvent{};
    if (event.fd >= 0) ClosePerfEvent(event);
  }
  slots_.Reset();
  census_.Reset();
  debts_.Forget();
  g_cpu_handler.Reset();
  g_signal_readers.waiter.store(0, std::memory_order_relaxed);
  if (g_signal_readers.reader.load(std::memory_order_relaxed) != 0) g_signal_readers.reader.store(OwnTid());
  process_timer_.store(kNoTimer, std::memory_order_relaxed);
  next_look_ns_.store(0, std::memory_order_relaxed);
  t_state.slot_plus_one = 0;
  t_state.holds_signal = false;
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
      mine->pthread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
      t_state.slot_plus_one = mine->index + 1;
      StartTimer(mine, Since::kBirth);
    }
  }
  ReleaseThisThread();
}

bool CpuCapture::IsThisProcess() const { return pid_.load(std::memory_order_relaxed) == OwnPid(); }

bool CpuCapture::IsOurs(const siginfo_t& info) {
  if (info.si_code == SI_TIMER) {
    return slots_.Find(reinterpret_cast<uint64_t>(info.si_value.sival_ptr)).meaning !=
           ThreadSlots::Meaning::kForeign;
  }
  return g_cpu_handler.expects_perf_events() && (info.si_code == POLL_IN || info.si_code == POLL_HUP);
}

bool CpuCapture::CountIfOurs(const siginfo_t& info) {
  if (!IsOurs(info)) return false;
  ThreadSlot* slot = ThisThread();
  uint64_t ticks =
      info.si_code == SI_TIMER && info.si_overrun > 0 ? 1 + static_cast<uint64_t>(info.si_overrun) : 1;
  if (slot != nullptr && running()) {
    StackId stack{slot->last_stack.load(std::memory_order_relaxed)};
    g_cpu_handler.Charge(*slot, stack, TextId{slot->name.load(std::memory_order_relaxed)}, ticks);
  }
  return true;
}

void CpuCapture::WaitsForSignal(bool waits) {
  uint32_t tid = OwnTid();
  if (waits) {
    g_signal_readers.waiter.store(tid, std::memory_order_relaxed);
  } else {
    g_signal_readers.waiter.compare_exchange_strong(tid, 0, std::memory_order_relaxed);
  }
}

void CpuCapture::ReadsSignal(int descriptor, uint64_t mask) {
  if (!IsThisProcess()) return;
  g_signal_readers.reader.store(0, std::memory_order_relaxed);
  g_signal_readers.descriptor = descriptor;
  g_signal_readers.mask = mask;
  g_signal_readers.reader.store(OwnTid(), std::memory_order_release);
}

}  // namespace profagent
