// What makes threads tick: a CPU timer each, perf events, or one timer for the process; and which of them this process has.
//
// Context:   Start in `bootstrap`; everything else in `hook`, `dump` and `bootstrap`, by any thread over any slot. System
//            calls only, no lock: two at work at once are told apart by atomics, and the slower one leaves it to the other.
// Engines:   a timer a thread (default), or perf events (on request). What is refused is replaced, said in
//            one line: perf events by timers; thread timers by one process timer (RLIMIT_SIGPENDING) or,
//            where that is refused too (a sandbox), by perf events. Never two at once, or time would be
//            counted twice. Not ITIMER_PROF: it outlives exec, and kills the program that comes after.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/units.h"
#include "agent/capture/cpu_debts.h"
#include "agent/capture/thread_census.h"
#include "agent/capture/thread_slots.h"
#include "agent/ledger/ledger.h"

namespace profagent {

class CpuEngines {
 public:
  struct Settings {
    Ledger* ledger;
    ThreadSlots* slots;
    ThreadCensus* census;
    CpuDebts* debts;
    const std::atomic<bool>* running;  // false: a timer that is started now is stopped at once
    Nanos period;
    int signo;
    bool want_perf_events;
  };

  void Start(const Settings& settings) { settings_ = settings; }
  // A recording begins, with the engine that was asked for.
  void Begin();
  // Some engine is left.
  bool any() const { return engine_.load(std::memory_order_relaxed) != Engine::kNone; }
  // By timers whose account the thread's own clock settles.
  bool measures_each_thread() const {
    return engine_.load(std::memory_order_relaxed) == Engine::kThreadTimers;
  }

  // The slot's thread ticks from now on, or from its birth a moment ago. Refused: another engine is found, or the slot is
  // left untimed, which is counted and said.
  enum class Since : uint8_t { kNow, kBirth };
  void StartTimer(ThreadSlot* slot, Since since);
  // Late signals of the timer are stale from here on; what they stood for is settled or given up.
  void StopTimer(ThreadSlot* slot);
  // Settles what it owes, too.
  void StopProcessTimer();
  // After both: the calling thread, whose slot this is, ticks again.
  void Resume(ThreadSlot* slot);

  // Releases the slots of threads that are gone, and replaces events that the program closed.
  void CollectDead(const ThreadCensus::Turn& turn);
  // The application closed the slot's event (closefrom).
  static bool LostItsEvent(const ThreadSlot& slot);

  // In a forked child: the events are the parent's, and timers are not inherited.
  void Forget();

 private:
  enum class Engine : uint32_t { kNone, kThreadTimers, kSwitching, kProcessTimer, kPerfEvents };

  bool IsRunning() const { return settings_.running->load(std::memory_order_acquire); }
  Nanos RandomPhase();
  void Use(Engine engine);
  bool StartPerfEvent(ThreadSlot* slot, Nanos phase);
  bool StartThreadTimer(ThreadSlot* slot, Nanos first);
  bool StartProcessTimer();
  void LeaveUntimed(int error, const char* refused);
  void LeavePerfEvents(int error);
  void LeaveThreadTimers(int error, const char* refused);
  void ReplaceLostEvent(ThreadSlot* slot);

  Settings settings_{};
  std::atomic<Engine> engine_{Engine::kNone};
  std::atomic<int32_t> process_timer_{kNoTimer};
  std::atomic<uint64_t> random_{0};
  std::atomic<bool> said_refused_{false};
};

}  // namespace profagent
