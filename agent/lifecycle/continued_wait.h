// The timeout of a wait that a dump signal has ended, and that is begun again: what is left of it.
//
// Context: `signal`, in the dump signal's handler: made at its beginning; Continue is the last thing in it, when RestartInterruptedCall
//          has said true.
// Why:     dumps may come again and again (one each ten seconds, from a timer), to a thread that sleeps in poll for thirty: its timeout
//          would begin again each time, and never end.
// How:     the kernel says what is left in ppoll, in select and, where the program asks, in nanosleep. For others the deadline is
//          remembered at the first signal. The second meets the same wait if the thread has slept once since, and not gone on.
//          What passed before the first signal is not known: such a wait takes its timeout twice at most.
// Where:   in libc's own calls. They use the registers that hold the timeout for nothing else; other code may, in its next round.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace profagent {

class WaitContinuer {
 public:
  WaitContinuer();
  void Continue(ucontext_t* context) const;

 private:
  uint64_t sleeps_;  // of the thread, until the signal
  uint64_t now_;
};

}  // namespace profagent
