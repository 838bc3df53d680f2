// The dump signal (PROFAGENT_SIGNAL, USR2): profiles of a process that goes on.
//
// Context:  Start in `bootstrap`; the handler in `signal`, which becomes `dump` on a stack of ours. No thread, no lock, no
//           memory of the application: the signal may have stopped its thread anywhere, in malloc too.
// Promises: every signal that arrives is answered by a dump that begins after it; dumps are numbered 1, 2, ... and never
//           overlap. Signals that arrive while somebody writes (another thread, or the end of the process) are answered
//           together by who writes, before it goes on: as the kernel makes one of signals that are pending.
// Others':  a program that sets a handler for this signal keeps it. Its user is told once how to choose another: in an
//           error line when dumps are what the agent is here for (`loud`), else at verbosity 1: clang, for one, handles
//           USR2, and who profiles its CPU time wants its standard error as it is. One that ignores it (it is inherited, by a
//           whole tree) or starts with it blocked is told of at verbosity 1 only.
#pragma once

#include "agent/lifecycle/own_stack.h"

namespace profagent {

struct DumpWriter {
  OwnStack* stack;    // the one that the end of the process writes on
  void (*write)();    // writes one dump, on it
  void (*give_up)();  // after a fault in there
  bool (*is_over)();  // in a sandbox: the signal means nothing any more, and harms nobody
  bool loud;
};
void StartDumpSignal(int signo, const DumpWriter& writer);

// By who has just left the stack: answers what came meanwhile.
void AnswerDumpRequests();

// In a forked child: what its parent was asked for is the parent's.
void ForgetDumpRequests();

// Around fork, in the thread that forks: a signal to the whole group finds the child before it has a ledger of its own, and
// would kill it as one that has none.
void HoldDumpSignal();
void ReleaseDumpSignal();

}  // namespace profagent
