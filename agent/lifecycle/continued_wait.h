// The timeout of a wait that a dump signal has ended, and that is begun again: what is left of it.
//
// Context: `signal`, as the last thing in the dump signal's handler, when RestartInterruptedCall has said true.
// Why:     dumps may come again and again (one each ten seconds, from a timer), to a thread that sleeps in poll for thirty: its timeout
//          would begin again each time, and never end.
// How:     the kernel says what is left in ppoll, in select and, where the program asks, in nanosleep. For others the deadline is
//          remembered at the first signal, and the register that holds the timeout marked: the second one knows the call by that.
//          What passed before the first signal is not known: such a wait takes its timeout twice at most.
// Where:   in libc's own calls. They use the registers that hold the timeout for nothing else; other code may, in its next round.
#pragma once

#include <ucontext.h>

namespace profagent {

void ContinueWait(ucontext_t* context);

}  // namespace profagent
