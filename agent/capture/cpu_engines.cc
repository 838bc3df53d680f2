#include "agent/capture/cpu_engines.h"

#include <sys/mman.h>
#include <time.h>

#include <cerrno>

#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/scramble.h"
#include "agent/capture/cpu_handler.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/perf_events.h"

namespace profagent {
namespace {

uint32_t OwnTid() { return static_cast<uint32_t>(RawSyscall(SYS_gettid)); }
uint32_t OwnPid() { return static_cast<uint32_t>(RawSyscall(SYS_getpid)); }

PerfEvent EventOf(const ThreadSlot& slot) {
  return {slot.perf_fd.load(std::memory_order_acquire), slot.perf_id, slot.perf_user_time_only};
}

}  // namespace

void CpuEngines::Begin() {
  uint64_t seed = 0;
  RawSyscall(SYS_getrandom, &seed, sizeof seed, 1);
  seed ^= ReadClock(CLOCK_MONOTONIC).value ^ static_cast<uint64_t>(OwnPid()) << 32;
  random_.store(seed, std::memory_order_relaxed);
  Use(settings_.want_perf_events ? Engine::kPerfEvents : Engine::kThreadTimers);
}

Nanos CpuEngines::RandomPhase() {
  uint64_t draw = Scramble(random_.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed));
  return Nanos(1 +
               static_cast<uint64_t>(static_cast<unsigned __int128>(draw) * settings_.period.value >> 64));
}

void CpuEngines::CollectDead(const ThreadCensus::Turn& turn) {
  auto bury = [this](ThreadSlot* slot) {
    StopTimer(slot);
    if (slot->spare_stack != nullptr) RawSyscall(SYS_munmap, slot->spare_stack, slot->spare_stack_size);
    settings_.slots->Release(slot);
  };
  auto visit = [this](ThreadSlot* slot) {
    bool timed = slot->use.load(std::memory_order_acquire) == SlotUse::kTimed;
    if (timed && LostItsEvent(*slot)) ReplaceLostEvent(slot);
  };
  settings_.census->ForEachSlot(turn, bury, visit);
}

// The application closed the event's descriptor (closefrom): from here on timers do the work, of all threads.
void CpuEngines::ReplaceLostEvent(ThreadSlot* slot) {
  Engine perf = Engine::kPerfEvents;
  if (engine_.compare_exchange_strong(perf, Engine::kSwitching, std::memory_order_acq_rel)) {
    Use(Engine::kThreadTimers);
    Log(Verbosity::kErrors, "the program closed the descriptors of perf events; using timers");
  }
  StopTimer(slot);
  StartTimer(slot, Since::kNow);
}

void CpuEngines::StartTimer(ThreadSlot* slot, Since since) {
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

void CpuEngines::Use(Engine engine) {
  CpuEngine shown = CpuEngine::kNone;
  if (engine == Engine::kThreadTimers) shown = CpuEngine::kThreadTimers;
  if (engine == Engine::kProcessTimer) shown = CpuEngine::kProcessTimer;
  if (engine == Engine::kPerfEvents) shown = CpuEngine::kPerfEvents;
  settings_.ledger->header()->cpu_engine.store(static_cast<uint32_t>(shown), std::memory_order_relaxed);
  engine_.store(engine, std::memory_order_seq_cst);
}

bool CpuEngines::StartPerfEvent(ThreadSlot* slot, Nanos phase) {
  PerfEvent event = OpenPerfEvent(slot->tid.load(std::memory_order_relaxed), settings_.signo, phase);
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
  if (!IsRunning()) StopTimer(slot);
  return true;
}

// Refused to the first thread: timers do the work. Refused to a later one (its descriptors are used up): that
// one thread is missing, for a timer beside the events of others would be an engine of its own to keep apart.
void CpuEngines::LeavePerfEvents(int error) {
  bool in_use = false;
  for (uint32_t i = 0; i < settings_.slots->limit(); ++i) {
    in_use |= settings_.slots->At(i)->perf_fd.load(std::memory_order_relaxed) != kNoDescriptor;
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

bool CpuEngines::StartThreadTimer(ThreadSlot* slot, Nanos first) {
  uint32_t tid = slot->tid.load(std::memory_order_relaxed);
  TimerTarget target{ThreadCpuClock(tid), tid, settings_.signo, settings_.slots->SignalValue(*slot)};
  int32_t timer = CreateTimer(target);
  if (timer == -EAGAIN) {
    if (ThreadCensus::Turn turn = settings_.census->TryTakeTurn()) {
      CollectDead(turn);  // timers of dead threads count against the limit
      timer = CreateTimer(target);
    }
  }
  if (timer < 0) {
    bool ended = timer == -EINVAL && SyscallError(RawSyscall(SYS_tgkill, OwnPid(), tid, 0)) == ESRCH;
    if (!ended) LeaveThreadTimers(-timer, "timer_create");
    return false;
  }
  slot->timer_id.store(timer, std::memory_order_seq_cst);
  slot->use.store(SlotUse::kTimed, std::memory_order_seq_cst);
  // EINVAL: a sweep over the slots has deleted it already; ESRCH: the thread has ended, which its burial finds out.
  int32_t armed = ArmTimer(timer, first, settings_.period);
  if (armed < 0 && armed != -EINVAL && armed != -ESRCH) {
    StopTimer(slot);
    slot->use.store(SlotUse::kStarting, std::memory_order_release);  // the next engine is tried
    LeaveThreadTimers(-armed, "timer_settime");
    return false;
  }
  slot->armed.store(true, std::memory_order_release);
  // Stop, or a switch to the process timer, swept over the slots before this timer was among them.
  if (!IsRunning() || engine_.load(std::memory_order_seq_cst) != Engine::kThreadTimers) StopTimer(slot);
  return true;
}

void CpuEngines::LeaveUntimed(int error, const char* refused) {
  settings_.ledger->Count(Loss::kThreadNotTimed);
  if (!said_refused_.exchange(true)) {
    Log(Verbosity::kErrors, refused, " is refused (errno ", error,
        "); threads are missing from the CPU profile");
  }
}

void CpuEngines::StopTimer(ThreadSlot* slot) {
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
void CpuEngines::LeaveThreadTimers(int error, const char* refused) {
  Engine timers = Engine::kThreadTimers;
  if (!engine_.compare_exchange_strong(timers, Engine::kSwitching, std::memory_order_seq_cst)) return;
  for (uint32_t i = 0; i < settings_.slots->limit(); ++i) {
    ThreadSlot* slot = settings_.slots->At(i);
    if (slot->use.load(std::memory_order_seq_cst) != SlotUse::kTimed) continue;
    StopTimer(slot);
    settings_.debts->Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
    slot->first_expiry_ns.store(0, std::memory_order_relaxed);
  }
  const char* reason = error == EAGAIN ? " (RLIMIT_SIGPENDING, ulimit -i)" : "";
  if (error == EAGAIN) {
    if (StartProcessTimer()) {
      settings_.ledger->Count(Loss::kTimerLimit);
      Use(Engine::kProcessTimer);
      Log(Verbosity::kErrors, "a timer a thread is refused", reason,
          "; one timer serves the process, and which thread it samples is the kernel's choice");
      return;
    }
  }
  bool tried = settings_.want_perf_events;  // and was refused, or timers would not be in use
  if (!tried) {
    Use(Engine::kPerfEvents);
    for (uint32_t i = 0; i < settings_.slots->limit(); ++i) {
      ThreadSlot* slot = settings_.slots->At(i);
      if (slot->use.load(std::memory_order_acquire) == SlotUse::kUntimed) StartTimer(slot, Since::kNow);
    }
  } else {
    Use(Engine::kNone);
  }
  // The thread that asked is perhaps the first and not among them yet.
  PerfEvent probe = tried ? PerfEvent{} : OpenPerfEvent(OwnTid(), settings_.signo, settings_.period);
  ClosePerfEvent(probe);
  if (probe.fd >= 0) {
    Log(Verbosity::kErrors, refused, " is refused (errno ", error, ")", reason, "; using perf events");
    return;
  }
  Use(Engine::kNone);
  settings_.ledger->Count(Loss::kThreadNotTimed);
  Log(Verbosity::kErrors, "no CPU profile: ", refused, " is refused (errno ", error, ")", reason,
      ", and so are perf events");
}

bool CpuEngines::StartProcessTimer() {
  ThreadSlot& account = g_cpu_handler.process_account();
  Nanos first = ReadClock(CLOCK_PROCESS_CPUTIME_ID) + RandomPhase();
  account.first_expiry_ns.store(first.value, std::memory_order_relaxed);
  account.ticks.store(0, std::memory_order_relaxed);
  account.prepaid.store(0, std::memory_order_relaxed);
  int32_t timer =
      CreateTimer({CLOCK_PROCESS_CPUTIME_ID, 0, settings_.signo, settings_.slots->ProcessTimerValue()});
  if (timer < 0) return false;
  // Two threads may come back from a failed exec at once.
  int32_t other = process_timer_.exchange(timer, std::memory_order_acq_rel);
  if (other != kNoTimer) DeleteTimer(other);
  account.armed.store(true, std::memory_order_relaxed);
  return ArmTimer(timer, first, settings_.period) == 0;
}

void CpuEngines::StopProcessTimer() {
  int32_t timer = process_timer_.exchange(kNoTimer, std::memory_order_acq_rel);
  if (timer == kNoTimer) return;
  DeleteTimer(timer);
  settings_.debts->Settle(&g_cpu_handler.process_account(), CLOCK_PROCESS_CPUTIME_ID);
}

void CpuEngines::Resume(ThreadSlot* slot) {
  if (engine_.load(std::memory_order_acquire) == Engine::kProcessTimer) {
    StartProcessTimer();
  } else if (slot != nullptr) {
    StartTimer(slot, Since::kNow);
  }
}

bool CpuEngines::LostItsEvent(const ThreadSlot& slot) {
  PerfEvent event = EventOf(slot);
  return event.fd >= 0 && !IsStillOurs(event);
}

void CpuEngines::Forget() {
  for (uint32_t i = 0; i < settings_.slots->limit(); ++i) {
    ThreadSlot* slot = settings_.slots->At(i);
    PerfEvent event = slot != nullptr ? EventOf(*slot) : PerfEvent{};
    // And no more: the event is the parent's, whose thread it times.
    if (IsStillOurs(event)) RawSyscall(SYS_close, event.fd);
  }
  process_timer_.store(kNoTimer, std::memory_order_relaxed);
}

}  // namespace profagent
