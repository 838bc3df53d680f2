// The way back from a signal handler: what the kernel calls the restorer, and libc's functions install by the name of
// __restore_rt. Ours notes on its way where the handler returns to.
//
// Context: `signal`, entered by the handler's `ret`. All registers are the kernel's to restore.
// Why:     a tick that was held up by the handler's mask, or that falls into the return's own system call, is delivered at the
//          instruction that the handler returns to. Behind a call that the handler ended with EINTR nothing else tells that the
//          tick has not ended it (capture/interrupted_call.h).
// Unwinds: as libc's, by call frame information with the signal's mark: debuggers and unwinders see a signal's frame.
// Beware:  a handler that was set by a system call of the program's own returns by another way.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"

extern "C" __attribute__((visibility("hidden"))) void profagent_handler_return();

namespace profagent {

// What the assembly knows.
static_assert(offsetof(ThreadState, returned_pc) == 0 && offsetof(ThreadState, returned_sp) == 8);
static_assert(offsetof(ucontext_t, uc_mcontext.gregs) == 40 && REG_R8 == 0 && REG_RSP == 15 && REG_RIP == 16);

inline uintptr_t HandlerReturn() { return reinterpret_cast<uintptr_t>(&profagent_handler_return); }

// The last handler of this thread returned to where `context` was interrupted: a loop that the next tick meets in the same call
// looks the same, which costs a program that has just had a handler end this call one EINTR more.
PROF_ALWAYS_INLINE bool CameFromHandler(const ucontext_t& context) {
  const greg_t* registers = context.uc_mcontext.gregs;
  return t_state.returned_pc == static_cast<uintptr_t>(registers[REG_RIP]) &&
         t_state.returned_sp == static_cast<uintptr_t>(registers[REG_RSP]);
}

}  // namespace profagent
