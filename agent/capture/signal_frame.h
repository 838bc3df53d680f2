// The kernel's signal frame, moved off the alternate stack.
//
// Context: `signal`. Reads and writes the frame that the handler was entered on, and copies it below the stack pointer that
//          was interrupted, where the kernel would have put it.
// Why:     our flags ask for the alternate stack, on which a thread's own may be too small for us. A handler of the
//          application's without SA_ONSTACK expects its thread's stack: the alternate one may have no room for it.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

// What an application's handler is entered with; the assembly of PROF_ENTER_APPLICATION_HANDLER has it on its stack.
struct HandlerCall {
  uint64_t unused;
  uint64_t signo;
  siginfo_t* info;
  void* context;
  uintptr_t stack;  // the stack pointer; 0: as the kernel set it
};
static_assert(sizeof(HandlerCall) == 40 && offsetof(HandlerCall, signo) == 8 &&
              offsetof(HandlerCall, stack) == 32);

// Where the kernel went over to the alternate stack for the frame. Does nothing where it did not.
PROF_SIGNAL_SAFE void LeaveAlternateStack(HandlerCall* call);

}  // namespace profagent
