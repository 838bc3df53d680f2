// How the process ends, forks, becomes another program or enters a sandbox, and what is written then.
//
// Context:  StartProcessLife in `bootstrap`; what it installs runs in `hook` (fork handlers, exec, _exit), in exit handlers, and
//           in the handlers of fatal signals; what is written, and how, is in own_profiles.h.
// Ends:     return from main and exit: a handler that was registered before everybody else's and so runs last;
//           quick_exit likewise; _exit and _Exit: hooks; a signal whose action is the default: our handler
//           writes, then the process dies of that very signal. Not seen: SIGKILL, exit_group as a raw system
//           call past libc, a stack overflow without an alternate stack; `profagent run` still has the ledger then.
// Sandbox:  ends what we do, though the process goes on: written before it, as at an end, and nothing after.
// Ledger in a file: nothing is written, the end is noted in the ledger for whoever reads it.
// fork:     the child has its own ledger, name and end. A vfork child is told apart by its pid and does nothing.
#pragma once

#include <signal.h>

#include "agent/base/lineage.h"

namespace profagent {

// After the agent has become active.
void StartProcessLife(Lineage lineage);

// The CPU signal came, was not ours, and its action is the default: the process is about to die of it.
void EndBySignal(int signo, siginfo_t* info, void* context);

}  // namespace profagent
