// CPU profiling of one process: which threads have a timer, from when to when.
//
// Context:   Start in `bootstrap`; the thread functions in `hook`, in the thread they are about unless they
//            say otherwise; Stop and the exec and fork functions in `dump` and `hook`. System calls only, no
//            lock: two at work at once are told apart by atomics, and the slower one leaves it to the other.
// Engines:   what makes threads tick, and what does where that is refused: agent/capture/cpu_engines.h.
// Threads:   a slot is taken when pthread_create is called and found dead later (agent/capture/thread_census.h).
//            What its timer owes at the end is settled (agent/capture/cpu_debts.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "agent/base/units.h"
#include "agent/capture/cpu_debts.h"
#include "agent/capture/cpu_engines.h"
#include "agent/capture/cpu_handler.h"
#include "agent/capture/thread_census.h"
#include "agent/capture/thread_slots.h"

namespace profagent {

class CpuCapture {
 public:
  struct Settings {
    Ledger* ledger;
    Unwinder* unwinder;
    Hertz frequency;
    int signo;
    bool want_perf_events;
    uint32_t max_depth;
    bool measure_handler;
    StackBounds main_stack;
    AgentSignalHandler before_death;  // see CpuHandler::Settings
  };

  // Installs the handler and gives every thread that exists a timer. False: nothing was started (said on
  // stderr).
  bool Start(const Settings& settings);
  // Deletes the timers, settles what they owe, writes the stop time. The handler stays.
  void Stop();
  bool running() const { return running_.load(std::memory_order_acquire); }

  // The signal that is the agent's for the life of the process; 0: none, every hook goes straight through.
  int signo() const { return signo_.load(std::memory_order_acquire); }
  bool Owns(int signo) const { return signo != 0 && signo == this->signo(); }

  // pthread_create: in the creator. nullptr: the new thread will not be timed (counted), or nothing is
  // running.
  ThreadSlot* PrepareThread();
  void AbandonThread(ThreadSlot* slot);  // it was not created after all
  // In the new thread, whatever PrepareThread gave. `blocks_signal`: its mask holds the CPU signal, by its attributes or
  // its creator's mask.
  void BeginThread(ThreadSlot* slot, StackBounds bounds, bool blocks_signal);
  void EndThread();
  // Of the thread that pthread_self() calls `pthread`, from any thread.
  void RenameThread(uintptr_t pthread, std::string_view name);

  // Memory for an alternate stack of this thread, which lives as long as it does. nullptr: none to be had.
  void* SpareStack(size_t size);
  // That this thread's alternate stack begins at `start` (0: that it has none). What was said before.
  uintptr_t SayAlternateStack(uintptr_t start);
  // Whether another living thread said that its one begins there, too. Of two who say and ask at once, one at least sees it.
  bool HasOtherThreadAlternateStack(uintptr_t start);

  // At convenient moments: collects slots of dead threads, finds threads made by raw clone, notices a
  // replaced handler. Costs a comparison most of the time; the look itself comes at most once a second, or at
  // once if `now`.
  void LookAround(bool now = false);

  // Before a profile of a process that goes on (dump): counts what the timers owe. Not twice in 100 ms: what is settled goes to
  // a stack that is older than the tick that was to come.
  void SettleAll();

  // Holds the CPU signal back in this thread; they nest.
  void HoldThisThread();
  void ReleaseThisThread();
  void PauseThisThreadForExec();
  void ResumeAfterFailedExec();
  // Before a sandbox (hook): as for exec, but of all threads, and from here on every hook goes straight through. No system call
  // is made after it. Return: the sandbox was refused, all threads are timed again.
  void Retreat();
  void Return();
  // Around posix_spawn: the new program finds mask and disposition of the CPU signal as the application has them.
  void ShowSignalToChild();
  void HideSignalAgain();
  // In a vfork child, which shares this memory but has a mask of its own: from here on that is what the application asked
  // for.
  void MakeMaskReal();
  // `record`: the ledger is open again and this process is to be profiled as its parent was.
  void RestartInForkedChild(bool record);

  // False in a vfork child, and in one that was forked behind our back: its signals and timers are not ours
  // to touch.
  bool IsThisProcess() const;

  // What sigwait or its kin returned in this thread was ours: a tick, counted for the stack that was sampled last, or an
  // offer of a signal that waits elsewhere.
  bool CountIfOurs(const siginfo_t& info);

 private:
  Nanos Period() const { return Nanos(kNanosPerSecond / settings_.frequency.value); }
  void BeginRecording();
  ThreadSlot* AdoptThread(uint32_t tid);
  ThreadSlot* SlotHere();
  void ReadName(ThreadSlot* slot);
  void EnterInLedger(ThreadSlot* slot);
  static void SetName(ThreadSlot* slot, std::string_view name);
  void FindNewThreads(const ThreadCensus::Turn& turn);
  void NoticeReplacedHandler();
  void CountTimeNotSeen();
  void Settle(ThreadSlot* slot, bool is_calling_thread);

  void LeaveSignalToApplication();

  Settings settings_{};
  ThreadSlots slots_;
  ThreadCensus census_;
  CpuDebts debts_;
  CpuEngines engines_;
  std::atomic<int> signo_{0};
  std::atomic<bool> running_{false};
  std::atomic<uint32_t> pid_{0};
  std::atomic<uint64_t> next_look_ns_{0};
  std::atomic<uint64_t> next_settling_ns_{0};
  std::atomic<bool> said_replaced_{false};
  Nanos spent_before_;     // CPU time of the process when recording began
  int signo_outside_ = 0;  // what Return needs
  bool is_forked_ = false;
  bool ran_outside_ = false;
};

extern constinit CpuCapture g_cpu_capture;

}  // namespace profagent
