// The dump signal (PROFAGENT_SIGNAL, USR2): profiles of a process that goes on.
//
// Context:  Start in `bootstrap`; the handler in `signal`, which becomes `dump` on a stack of ours. No thread, no lock, no
//           memory of the application: the signal may have stopped its thread anywhere, in malloc too.
// Promises: a signal that arrives is answered with files numbered 1, 2, ...; one that comes while somebody writes (another
//           thread, or the end of the process) is remembered, and who writes answers it before it goes on. Signals that
//           the kernel merges, because one of them is pending already, are one.
// Others':  a program that sets a handler for this signal keeps it, and is told once how to choose another.
#pragma once

#include "agent/lifecycle/own_stack.h"

namespace profagent {

// `stack` is the one that the end of the process writes on; `write` writes one dump, on it.
void StartDumpSignal(int signo, OwnStack* stack, void (*write)());

// By who has just left the stack: answers what came meanwhile.
void AnswerDumpRequests();

// In a forked child: what its parent was asked for is the parent's.
void ForgetDumpRequests();

}  // namespace profagent
