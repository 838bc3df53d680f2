// CPU profiling of one process: which threads have a timer, from when to when.
//
// Context:   Start in `bootstrap`; the thread functions in `hook`, in the thread they are about unless they
//            say otherwise; Stop and the exec and fork functions in `dump` and `hook`. System calls only, no
//            lock: two at work at once are told apart by atomics, and the slower one leaves it to the other.
// Engines:   a timer a thread (default), or perf events (on request). What is refused is replaced, said in
//            one line: perf events by timers; thread timers by one process timer (RLIMIT_SIGPENDING) or,
//            where that is refused too (a sandbox), by perf events. Never two at once, or time would be
//            counted twice. Not ITIMER_PROF: it outlives exec, and kills the program that comes after.
// Threads:   a slot is taken when pthread_create is called and found dead later: there is no hook at a
//            thread's end that would be safe, complete and invisible. (A key's destructor is one of the
//            application's 1024 and runs before other destructors do their work; a cleanup handler meets two
//            different libgcc's in cancellation; libc's own thread-exit list allocates.) The kernel disarms a
//            dead thread's timer, so nothing can fire any more; the number of slots doubles at most before
//            the dead are collected.
// Debts:     the kernel looks at a CPU timer at its own tick, 1 to 10 ms apart, and only at the thread that
//            runs then: on a busy machine a thread may run for 100 ms and more in turns that meet no tick.
//            What expired after the last look before a thread ended never arrives: 10 % of a thread that
//            lives 20 ms, on an idle machine. When a thread ends, its CPU clock says how many periods are
//            owed, and they go to the stack that was sampled last: its own, or, when it was never sampled,
//            that of the last thread with the same start routine, which most likely did the same work.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "agent/base/units.h"
#include "agent/capture/cpu_handler.h"
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
  void BeginThread(ThreadSlot* slot, StackBounds bounds);
  void EndThread();
  // Of the thread that pthread_self() calls `pthread`, from any thread.
  void RenameThread(uintptr_t pthread, std::string_view name);

  // Memory for an alternate stack of this thread, which lives as long as it does. nullptr: none to be had.
  void* SpareStack(size_t size);

  // At convenient moments: collects slots of dead threads, finds threads made by raw clone, notices a
  // replaced handler. Costs a comparison most of the time; the look itself comes at most once a second, or at
  // once if `now`.
  void LookAround(bool now = false);

  // Holds the CPU signal back in this thread; they nest.
  void HoldThisThread();
  void ReleaseThisThread();
  void PauseThisThreadForExec();
  void ResumeAfterFailedExec();
  // `record`: the ledger is open again and this process is to be profiled as its parent was.
  void RestartInForkedChild(bool record);

  // False in a vfork child, and in one that was forked behind our back: its signals and timers are not ours
  // to touch.
  bool IsThisProcess() const;

  // Around sigwait and its kin on the CPU signal in this thread: foreign ones that other threads get are sent
  // here.
  void WaitsForSignal(bool waits);
  // What such a wait returned was a tick of ours: counted for the stack that was sampled last.
  bool CountIfOurs(const siginfo_t& info);

  // This thread made a signalfd with `mask`, which holds the CPU signal; the kernel was given it without
  // (SignalReaders).
  void ReadsSignal(int descriptor, uint64_t mask);

 private:
  enum class Engine : uint32_t { kNone, kThreadTimers, kSwitching, kProcessTimer, kPerfEvents };

  Nanos Period() const { return Nanos(kNanosPerSecond / settings_.frequency.value); }
  Nanos RandomPhase();
  void BeginRecording();
  ThreadSlot* ThisThread();
  ThreadSlot* AdoptThread(uint32_t tid);
  bool IsKnown(uint32_t tid);
  bool IsGone(const ThreadSlot& slot);
  void ReadName(ThreadSlot* slot);
  void EnterInLedger(ThreadSlot* slot, std::string_view name);

  enum class Since : uint8_t { kNow, kBirth };
  void StartTimer(ThreadSlot* slot, Since since);
  bool StartPerfEvent(ThreadSlot* slot, Nanos phase);
  bool StartThreadTimer(ThreadSlot* slot, Nanos first);
  void StopTimer(ThreadSlot* slot);
  void Use(Engine engine);
  void LeaveUntimed(int error, const char* refused);
  void LeavePerfEvents(int error);
  void LeaveThreadTimers(int error);
  bool StartProcessTimer();
  void StopProcessTimer();
  void Settle(ThreadSlot* account, clockid_t clock);
  StackId StackOfDebt(const ThreadSlot& account, Nanos owed);
  void CollectDead();
  void ReplaceLostEvent(ThreadSlot* slot);
  void FindNewThreads();
  void NoticeReplacedHandler();

  bool IsOurs(const siginfo_t& info);

  Settings settings_{};
  ThreadSlots slots_;
  std::atomic<int> signo_{0};
  std::atomic<bool> running_{false};
  std::atomic<Engine> engine_{Engine::kNone};
  std::atomic<int32_t> process_timer_{kNoTimer};
  std::atomic<uint32_t> pid_{0};
  std::atomic<uint32_t> starting_{0};  // threads between PrepareThread and BeginThread
  std::atomic<uint64_t> random_{0};
  std::atomic<uint64_t> next_look_ns_{0};
  std::atomic<uint32_t> looking_{0};
  std::atomic<uint32_t> collect_at_{0};
  struct Sibling {  // the newest stack of a thread that began at `start_routine`
    std::atomic<uintptr_t> start_routine;
    std::atomic<RecordId> stack;
  };
  static constexpr uint32_t kSiblings = 64;
  Sibling& SiblingOf(const ThreadSlot& slot);

  Sibling siblings_[kSiblings] = {};
  std::atomic<uint32_t> said_{0};  // bits: what was said once already
};

extern constinit CpuCapture g_cpu_capture;

}  // namespace profagent
