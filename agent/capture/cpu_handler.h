// The handler of the CPU signal: from a tick to a counted stack.
//
// Context:   `signal`, every signal masked, perhaps on an alternate stack of 8 KiB that is the application's.
//            At most 2 KiB of stack in all (tests/unit/capture measures it), no lock, no system call (but the
//            two that the ledger and the unwinder document: a ledger in a file grows, a stack outside its
//            thread's bounds), errno untouched.
// Whose:     a signal is ours when its si_value carries our cookie (timers), or when it came from one of our
//            descriptors (perf events). Everything else is the application's, and goes to its action, or waits
//            for a thread that lets it through (capture/foreign_signals.h).
// Weight:    1 + si_overrun: on a kernel of 250 ticks a second a 1000 Hz timer delivers every fourth period
//            and says how many it left out.
#pragma once

#include <signal.h>

#include "agent/base/signal_safe.h"
#include "agent/capture/scratch_pool.h"
#include "agent/capture/signal_frame.h"
#include "agent/capture/thread_slots.h"
#include "agent/capture/virtual_signals.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

class CpuHandler {
 public:
  struct Settings {
    Ledger* ledger;
    Unwinder* unwinder;
    ThreadSlots* slots;
    uint32_t max_depth;
    Nanos period;
    bool measure;  // sum the handler's own time in the ledger's header
    // What the agent does before a process dies of the signal's default action; must not return. nullptr: it
    // just dies.
    AgentSignalHandler before_death;
  };

  bool Start(const Settings& settings);
  void Reset() { scratch_.Reset(); }

  // From the first event on, signals of descriptors may be ours.
  void ExpectPerfEvents() { expects_perf_events_.store(true, std::memory_order_release); }
  bool expects_perf_events() const { return expects_perf_events_.load(std::memory_order_acquire); }

  // What the kernel is given.
  static AgentSignalHandler Entry();

  // The account of the process timer, which belongs to no thread.
  ThreadSlot& process_account() { return process_account_; }

  // Returns the application's handler to jump to, with what `call` says by then, or 0.
  PROF_SIGNAL_SAFE uintptr_t OnSignal(int signo, siginfo_t* info, void* context, HandlerCall* call);

  // A tick, or a word of one of our threads to another.
  PROF_SIGNAL_SAFE bool IsOurs(const siginfo_t& info) const;

  // The thread's name, which enters the ledger here: with its first sample, for a program may name each of a million threads.
  PROF_SIGNAL_SAFE TextId NameOf(ThreadSlot& thread);

  // Counts `ticks` for a stack that is known already.
  PROF_SIGNAL_SAFE void Charge(ThreadSlot& account, StackId stack, TextId name, uint64_t ticks);
  // The same of ticks that are in the account. False: the ledger is full.
  PROF_SIGNAL_SAFE bool AddToLedger(StackId stack, TextId name, uint64_t ticks);

 private:
  PROF_SIGNAL_SAFE void OnTick(ThreadSlot& account, ThreadSlot* thread, uint64_t weight,
                               const ucontext_t& context);
  PROF_SIGNAL_SAFE void Sample(ThreadSlot& account, ThreadSlot* thread, uint64_t weight,
                               const ucontext_t& context);
  PROF_SIGNAL_SAFE ThreadSlot* OwnerOf(int perf_fd) const;
  PROF_SIGNAL_SAFE void OnPerfTick(ThreadSlot* slot, const ucontext_t& context);
  PROF_SIGNAL_SAFE uintptr_t OnForeign(int signo, HandlerCall* call);
  PROF_SIGNAL_SAFE uintptr_t Deliver(int signo, HandlerCall* call);
  PROF_SIGNAL_SAFE uintptr_t AfterTick(int signo, HandlerCall* call);
  PROF_SIGNAL_SAFE static bool Blocks(const void* context);
  PROF_SIGNAL_SAFE void BecomeReader(int signo, void* context);

  Settings settings_{};
  std::atomic<bool> expects_perf_events_{false};
  ScratchPool scratch_;
  ThreadSlot process_account_{};
};

extern constinit CpuHandler g_cpu_handler;

}  // namespace profagent
