// A system call that our tick ended with EINTR is begun again, as if the tick had come one instruction
// earlier.
//
// Context: `signal`. Looks at the interrupted registers and at a few bytes of the code before them, and
//          changes two registers.
// Why:     poll, select, epoll_wait, nanosleep, sigsuspend and others return EINTR after any handler,
//          SA_RESTART or not. A program without signal handlers has never seen that, and many do not expect
//          it.
// Right:   a CPU clock stands still while its thread sleeps, so our tick meets such a call on its way in,
//          before it waited or did anything: to begin it again is to have begun it a moment later. Timeouts
//          begin again too, by the same few microseconds. What the kernel did not end (an event, the timeout,
//          data) has another result than EINTR. Not for the process timer: that one may meet a thread that has slept for
//          long, again and again. (In io_uring_enter a thread works for others while it waits: there the timeout is longer by that.)
// Foreign: a signal of the application's that its thread blocks or ignores would not have ended the call, and does not:
//          there the thread may have slept for long, and a timeout begins again as a whole. No signal would have been
//          exact, EINTR would be what the program does not expect.
// Handler: a handler of the application's that has ended the call, and returned just before, keeps its EINTR: the program may
//          have waited for that signal alone (capture/handler_return.h).
// Which:   calls on a list, all of which have done nothing when they say EINTR (not close, not connect), and
//          only where the call's number stands in the code right before it, as libc's own calls have it, or comes there from a
//          register, as in liburing, or from the stack, as in libc's since glibc 2.41.
//          Others keep their EINTR.
#pragma once

#include <ucontext.h>

#include "agent/base/signal_safe.h"

namespace profagent {

// True: it will be begun again. One that the kernel would begin again of itself ends, if a handler without SA_RESTART is next.
PROF_SIGNAL_SAFE bool RestartInterruptedCall(ucontext_t* context);

// The opposite, for a handler of the application's without SA_RESTART: our flags made the kernel begin the call again, and
// now it ends with EINTR. For calls on a list, all of which may end so, and only where the registers show that the call
// was under way and not about to be made. True: it was.
PROF_SIGNAL_SAFE bool EndRestartedCall(ucontext_t* context);

}  // namespace profagent
