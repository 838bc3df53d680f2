// What the preload libraries of the oracle and of the benchmark share: a CPU timer over the whole process, the
// bounds of the interrupted stack, libunwind without its symbols in anybody's way.
//
// Context: test-only libraries, loaded with LD_PRELOAD into real programs. They may do in a handler what the agent
//          may not (libunwind takes locks), because the programs are chosen.
#pragma once

#ifndef UNW_LOCAL_ONLY
#define UNW_LOCAL_ONLY
#endif
#include <dlfcn.h>
#include <libunwind.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

#include "agent/unwind/unwinder.h"

extern "C" void* __libc_stack_end;

namespace profagent {

// libunwind, dlopened RTLD_LOCAL: linked, it would take over _Unwind_RaiseException of C programs that use C++
// libraries.
struct LibUnwind {
  int (*init_local2)(unw_cursor_t*, unw_context_t*, int) = nullptr;
  int (*step)(unw_cursor_t*) = nullptr;
  int (*get_reg)(unw_cursor_t*, unw_regnum_t, unw_word_t*) = nullptr;
  int (*is_signal_frame)(unw_cursor_t*) = nullptr;
  int (*backtrace)(void**, int) = nullptr;

  bool Load() {
    void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    Find(library, "_ULx86_64_init_local2", &init_local2);
    Find(library, "_ULx86_64_step", &step);
    Find(library, "_ULx86_64_get_reg", &get_reg);
    Find(library, "_ULx86_64_is_signal_frame", &is_signal_frame);
    Find(library, "unw_backtrace", &backtrace);
    return init_local2 && step && get_reg && is_signal_frame && backtrace;
  }

 private:
  template <class Function>
  static void Find(void* library, const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library, name));
  }
};

// From a little below the interrupted stack pointer to the top of the thread's stack: glibc keeps its thread
// block there. Otherwise (alternate stacks, coroutines) nothing, so the walk uses SafeRead.
inline StackBounds InterruptedStackBounds(const ucontext_t& context) {
  auto sp = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
  constexpr uintptr_t kLargest = uintptr_t{64} << 20;
  uintptr_t top = getpid() == gettid() ? reinterpret_cast<uintptr_t>(__libc_stack_end) + 8
                                       : reinterpret_cast<uintptr_t>(pthread_self());
  if (sp >= top || top - sp > kLargest) return {};
  return {sp - kRedZone, top};
}

inline uint64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// SIGPROF for each millisecond of CPU time of the process (a tick of the kernel, where that is longer). A POSIX timer
// rather than setitimer: it does not outlive exec.
inline void StartSampling(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigaction(SIGPROF, &action, nullptr);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGPROF;
  timer_t timer;
  if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0) return;
  itimerspec period = {{0, 1'000'000}, {0, 1'000'000}};
  timer_settime(timer, 0, &period, nullptr);
}

}  // namespace profagent
