// Signals that the agent handles while the application believes that it alone does.
//
// Context:   Take in `bootstrap`; Set, Get and the mask functions in `hook` (agent/interpose/signal_hooks.cc calls them
//            for sigaction and its relatives, also from the application's own handlers); DeliverToApplication in
//            `signal`; the queries anywhere.
// Invariant: for a signal that was taken the kernel holds the agent's handler whenever the agent needs it, and the
//            application is told the action that it set itself.
//   Always:        (the CPU signal) the kernel holds ours whatever the application sets. Ticks that are not ours go
//                  to the application's action.
//   WhileDefault:  (SIGTERM, SIGSEGV, ...) the kernel holds ours only while the application's action is SIG_DFL: the
//                  profile is written before the process dies. A handler or SIG_IGN of the application goes to the
//                  kernel as it is and costs nothing.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

// The kernel's struct sigaction on x86-64 (libc's has another order and a larger mask).
struct KernelSigaction {
  uintptr_t handler = 0;  // SIG_DFL 0, SIG_IGN 1
  uint64_t flags = 0;
  uintptr_t restorer = 0;
  uint64_t mask = 0;  // bit signo - 1
};
static_assert(sizeof(KernelSigaction) == 32);

using AgentSignalHandler = void (*)(int signo, siginfo_t* info, void* context);

class VirtualSignals {
 public:
  enum class Hold : uint8_t { kNot, kAlways, kWhileDefault };

  // Installs `handler` (SA_SIGINFO, SA_ONSTACK, SA_RESTART, every signal masked), now or, with kWhileDefault and another
  // action in force, when the application returns to SIG_DFL. False: the kernel refused.
  bool Take(int signo, AgentSignalHandler handler, Hold hold = Hold::kWhileDefault);

  bool IsTaken(int signo) const;
  // The application's action is SIG_DFL (also when the signal was never taken: asks the kernel).
  bool IsDefault(int signo) const;
  KernelSigaction ApplicationAction(int signo) const;

  // What sigaction(signo, action, old) must do and say for a signal that is taken; either may be nullptr. Returns 0 or
  // the kernel's -errno.
  long Exchange(int signo, const KernelSigaction* action, KernelSigaction* old);

  // Gives the signal to the application as the kernel would have: its handler with its mask and flags, nothing for
  // SIG_IGN, death for SIG_DFL. Called as the last thing in the agent's handler.
  void DeliverToApplication(int signo, siginfo_t* info, void* context);

 private:
  struct Entry;
  Entry* Find(int signo) const;
};

extern constinit VirtualSignals g_virtual_signals;

}  // namespace profagent
