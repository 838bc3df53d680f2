// sigaltstack: an alternate stack that is too small for our handler beside the program's, or that another thread has, too, is
// replaced by one of ours.
//
// Context: `hook`; async-signal-safe. One mapping a thread at most, and only in threads that set such a stack.
// Why:     MINSIGSTKSZ was 2048 when it was a constant, and programs still use it. The kernel's signal frame
//          alone takes 3.3 KiB with AVX-512: where the program's own signals never came, or came on other
//          stacks, ours would kill it at the first tick. With SA_ONSTACK left out instead, programs whose
//          stacks have no room (Go, coroutines) would die.
//          And a tick comes while a handler of the program's runs there, the report of a crash: of the usual 8 KiB, two frames
//          of the kernel leave 1.3 for both handlers.
// Shared:  a stack for the handler of a crash, one for all threads (varnishd), does no harm as long as only one of them
//          crashes. Ticks come to several threads at once, and would overwrite each other's frames.
// Seen:    the application is told the stack that it set. A handler of its own that runs there has more room
//          than it knows.
#include <signal.h>
#include <sys/auxv.h>

#include <algorithm>

#include "agent/base/errno_saver.h"
#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_capture.h"
#include "agent/interpose/real_functions.h"

namespace profagent {
namespace {

constexpr size_t kHandlerStack = 2048;  // what the handler promises to stay within (tests/unit/capture)
constexpr size_t kMargin = 512;
constexpr size_t kProgramsHandler = 8192;  // what it may take, as the usual stack is large
constexpr size_t kReplacementSize = 32 * 1024;
constexpr size_t kSmallestStack = 2048;  // what the kernel refuses to go below

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

// The kernel's frame on this processor. Kernels that do not say it (before 5.14) have no larger registers
// than AVX-512.
size_t KernelFrame() {
  size_t said = getauxval(AT_MINSIGSTKSZ);
  return said != 0 ? said : 3584;
}

}  // namespace
}  // namespace profagent

PROF_EXPORT int sigaltstack(const stack_t* stack, stack_t* old) noexcept {
  using namespace profagent;  // NOLINT(google-build-using-namespace): a function of ours in all but its name
  if (g_cpu_capture.signo() == 0 || !g_cpu_capture.IsThisProcess()) return Real().sigaltstack(stack, old);
  stack_t wanted = {};
  stack_t given = {};
  uintptr_t said_before = 0;
  bool replace = false;
  if (stack != nullptr) {
    wanted = given = *stack;
    bool enables = (wanted.ss_flags & SS_DISABLE) == 0 && wanted.ss_size >= kSmallestStack;
    auto start = enables ? reinterpret_cast<uintptr_t>(wanted.ss_sp) : 0;
    said_before = g_cpu_capture.SayAlternateStack(start);
    size_t least = kProgramsHandler + KernelFrame() + kHandlerStack + kMargin;
    replace = enables && (wanted.ss_size < least || g_cpu_capture.HasOtherThreadAlternateStack(start));
  }
  if (replace) {
    ErrnoSaver keep;
    size_t size = std::max(kReplacementSize, wanted.ss_size);
    void* ours = g_cpu_capture.SpareStack(size);
    replace = ours != nullptr;
    if (replace) {
      given.ss_sp = ours;
      given.ss_size = size;
      g_cpu_capture.SayAlternateStack(0);
    }
  }
  stack_t before;
  int result = Real().sigaltstack(stack != nullptr ? &given : nullptr, &before);
  if (result != 0) {
    if (stack != nullptr) g_cpu_capture.SayAlternateStack(said_before);
    return result;
  }
  if (old != nullptr) {
    *old = before;
    // Not while SS_AUTODISARM has taken it away: then there is none.
    if (t_state.replaced_stack.ss_sp != nullptr && (before.ss_flags & SS_DISABLE) == 0) {
      old->ss_sp = t_state.replaced_stack.ss_sp;
      old->ss_size = t_state.replaced_stack.ss_size;
    }
  }
  if (stack != nullptr) t_state.replaced_stack = replace ? wanted : stack_t{};
  return 0;
}
