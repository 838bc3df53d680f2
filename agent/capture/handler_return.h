// The way back from a signal handler: what the kernel calls the restorer, and libc's functions install by the name of
// __restore_rt. Ours marks the place that it returns to, if a system call has ended there with EINTR.
//
// Context: `signal`, entered by the handler's `ret`. All registers are the kernel's to restore.
// Why:     a tick that was held up by the handler's mask, or that falls into the return's own system call, is delivered at the
//          instruction that the handler returns to. Behind a call that the handler ended with EINTR nothing else tells that the
//          tick has not ended it (capture/interrupted_call.h).
// Mark:    the processor's resume flag (RF). The return sets it with the other flags, a signal's frame shows it, and the next
//          instruction to complete clears it: who finds it comes right behind a handler, and the next call of a loop is
//          another. It has no meaning but to debuggers, whose breakpoint in a register would be passed over there.
// Ours:    a handler of the agent's alone leaves no mark: several may come one after the other, and the last one is to know.
// abort:   of SIGABRT: an application's handler that returns to abort does not keep the process alive, and what abort does next
//          passes libc's sigaction by. So this is where the agent learns of it (VirtualSignals::UseAbortReturn).
// Unwinds: as libc's, by call frame information with the signal's mark: debuggers and unwinders see a signal's frame.
// Beware:  a handler that was set by a system call of the program's own returns by another way.
#pragma once

#include <ucontext.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "agent/base/signal_safe.h"

extern "C" __attribute__((visibility("hidden"))) void profagent_handler_return();
extern "C" __attribute__((visibility("hidden"))) void profagent_abort_handler_return();

namespace profagent {

constexpr greg_t kResumeFlag = 1 << 16;

// What the assembly knows.
static_assert(offsetof(ucontext_t, uc_mcontext.gregs) == 40 && REG_R8 == 0 && EINTR == 4);
static_assert(REG_RAX == 13 && REG_RSP == 15 && REG_RIP == 16 && REG_EFL == 17);

inline uintptr_t HandlerReturn() { return reinterpret_cast<uintptr_t>(&profagent_handler_return); }

inline uintptr_t AbortHandlerReturn() { return reinterpret_cast<uintptr_t>(&profagent_abort_handler_return); }

// With EINTR in its register: a handler has just returned to where `context` was interrupted.
PROF_ALWAYS_INLINE bool CameFromHandler(const ucontext_t& context) {
  return (context.uc_mcontext.gregs[REG_EFL] & kResumeFlag) != 0;
}

}  // namespace profagent
