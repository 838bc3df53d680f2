// The CPU signal in the masks of threads: the application sees the mask that it set, the kernel never blocks
// the signal.
//
// Context: `hook`, in the thread whose mask it is. A vfork child shares its parent's ThreadState but has a
//          mask of its own: there everything goes straight through.
// Why:     programs block all signals in their worker threads; without this they would have no samples at
//          all. The time in which the application's own handler of the CPU signal runs is the exception
//          (VirtualSignals::NextHandler).
// Waiting: a foreign CPU signal that meets a thread which "blocks" it goes to another thread or is held
//          (capture/foreign_signals.h), and sent again when a thread unblocks it.
// Children: system() and popen() make theirs inside libc: there the signal is not blocked.
// Beware:  siglongjmp restores the kernel's mask inside libc, where we do not see it: a CPU signal that was
//          blocked in between stays "blocked" in the application's view until the next call here. The
//          kernel's mask is right.
#pragma once

#include <signal.h>

#include <cstdint>

namespace profagent {

using MaskFunction = int (*)(int, const sigset_t*, sigset_t*);

// sigprocmask or pthread_sigmask (`original`) on the application's behalf.
int ChangeMask(MaskFunction original, int how, const sigset_t* set, sigset_t* old);

// A mask for the time of one call (sigsuspend, ppoll, ...).
class TemporaryMask {
 public:
  explicit TemporaryMask(const sigset_t* wanted);
  ~TemporaryMask();
  TemporaryMask(const TemporaryMask&) = delete;
  TemporaryMask& operator=(const TemporaryMask&) = delete;

  const sigset_t* get() const { return given_; }

 private:
  const sigset_t* given_;
  sigset_t copy_;
  uint64_t beside_before_;
  bool changed_ = false;
  bool asked_before_ = false;
  bool blocked_ = false;
};

}  // namespace profagent
