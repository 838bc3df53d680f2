// A stack of our own for work that the application's stack may have no room for, and that may fail there without
// anybody noticing.
//
// Context:   `dump`: encoding and writing inside a signal handler, which may run on an 8 KiB alternate stack, or at the
//            end of a 16 KiB thread, with every signal blocked. One piece of work at a time in the whole process;
//            nobody waits for it.
// A fault of the work (SIGSEGV, SIGBUS, SIGFPE, SIGILL: a damaged ledger, a mapping that the application took away, a
//            bug of ours, this stack used up) ends the work and nothing else. For the time of the work these signals
//            are the agent's (VirtualSignals::Guard). A fault is believed when the working thread raised it with its
//            stack pointer here; then the work is left as by longjmp, what it held is let go (agent/base/holding.h),
//            and this stack does no work any more: what failed once is not to be trusted again. Every other signal
//            goes where it would have gone; one that was sent to the working thread comes when the work is over.
// Without memory for the stack, the work runs unguarded on the caller's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace profagent {

class OwnStack {
 public:
  // Maps the stack (lazily touched, with a guard page below).
  void Prepare();

  struct Fault {
    int signo;
    uintptr_t address;      // what could not be accessed, as the kernel says
    uintptr_t instruction;  // which could not
  };
  enum class Outcome : uint8_t {
    kDone,
    kRefused,  // another thread is at it, this one was interrupted inside it, or it failed before: nothing was done
    kFaulted,  // begun, and given up
  };
  Outcome Run(void (*work)(void*), void* argument);
  const Fault& fault() const { return fault_; }  // after kFaulted
  bool is_busy() const { return busy_.load(std::memory_order_acquire); }

  // In a forked child: a piece of work that another thread of the parent was doing will never end here.
  void Forget();

  class Job;  // a piece of work while it is being done (own_stack.cc)

 private:
  Outcome RunGuarded(void (*work)(void*), void* argument);

  // seq_cst: who is refused has said before what it wants, and who gives the stack back looks for that afterwards (dump_signal.cc).
  std::atomic<bool> busy_{false};
  bool failed_ = false;  // belongs to who took `busy_`
  char* low_ = nullptr;
  Fault fault_{};
};

}  // namespace profagent
