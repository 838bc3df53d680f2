// The agent of this process: made from the environment, wired together, started and stopped here.
//
// Context:   Start in `bootstrap` (the library's constructor); the rest as written at each function. Every
//            function may be called at any time, also when the agent is inert: it then does nothing.
// Inert:     no profile was asked for, or AT_SECURE (a setuid program), or the ledger could not be had. Then
//            there is no timer, no signal handler, no memory, and every hook goes straight through.
#pragma once

#include <atomic>

#include "agent/base/options.h"
#include "agent/capture/virtual_signals.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

class Agent {
 public:
  // Reads the options, makes the ledger, starts the capture. Once a process image.
  void Start(const char* const* arguments);

  bool active() const { return active_.load(std::memory_order_acquire); }
  const Options& options() const;
  Ledger& ledger() { return ledger_; }
  Unwinder& unwinder() { return unwinder_; }

  // Before the profile is written. Deletes every timer, counts what the kernel still owes, notes the stop
  // time in the ledger. Ticks that are still on their way are dropped. The handler stays installed: a signal
  // that meets SIG_DFL would kill. Any context, a handler included; the second call does nothing. System
  // calls only.
  void StopCpu();

  // Before a profile of a process that goes on is written: counts what the kernel owes. `dump`. System calls only.
  void SettleCpu();

  // A promise was broken inside the agent: nothing is recorded or written any more. Any context.
  void TurnOff();

  // In the thread that is about to fork: holds the CPU signal back, or a large fork never finishes (the
  // kernel restarts it at each signal). Then exactly one of the two, in parent and child. They nest.
  void BeforeFork();
  void AfterForkParent();
  // A new ledger for this process (empty; in a file of its own under `profagent run`), timers for its one
  // thread. With PROFAGENT_CHILDREN=0: inert from here on.
  void RestartAfterForkInChild();

  // In the thread that is about to exec: no CPU signal of ours may be pending when the new image starts (it
  // would die of it), and it inherits the mask and the ignored signals that the application believes to have.
  // In a vfork child, which has no timers, only the latter is done. If exec returns, ResumeAfterFailedExec restores both.
  void PauseThisThreadForExec();
  void ResumeAfterFailedExec();
  // Around posix_spawn, in the parent: the latter, for the child.
  void BeforeSpawn();
  void AfterSpawn();

  // In the thread that is about to shut the process up in a sandbox, where every system call may kill. After the first, no timer
  // runs and nothing is sampled; after the second, nothing that is left of the agent makes a system call, whatever the program
  // does, but for what lifecycle does itself. Return: the sandbox was refused, all goes on as it was.
  void StopSampling();
  void GiveSignalsBack(const AllSignalsBlocked& blocked);
  void Return();

 private:
  bool OpenLedger();
  void TellParentOfHiddenChild();
  void DescribeProcess(const char* const* arguments);
  void StartContention();
  void StartCpuCapture();
  void StartHeapSampler(uint64_t rate);
  void StepAside();
  void UseHooks();

  Ledger ledger_;
  Unwinder unwinder_;
  std::atomic<bool> active_{false};
  bool watches_locks_ = false;
};

extern constinit Agent g_agent;

}  // namespace profagent
