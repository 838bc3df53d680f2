// A stack of our own for work that the application's stack may have no room for.
//
// Context:   `dump`: encoding and writing inside a signal handler, which may run on an 8 KiB alternate stack,
// or at the end of
//            a 16 KiB thread. One piece of work at a time in the whole process; nobody waits for it.
// When busy: Run returns false and does nothing (another thread is at it, or this one was interrupted inside
// it).
#pragma once

#include <atomic>
#include <cstddef>

namespace profagent {

class OwnStack {
 public:
  // Maps the stack (lazily touched, with a guard page below). Without memory for it, Run uses the caller's
  // stack.
  void Prepare();

  bool Run(void (*work)(void*), void* argument);

  // In a forked child: a piece of work that another thread of the parent was doing will never end here.
  void Forget() { busy_.store(false, std::memory_order_relaxed); }

 private:
  static constexpr size_t kSize = 256 * 1024;

  std::atomic<bool> busy_{false};  // acquire to take, release to give back: the work's own data follows it
  char* low_ = nullptr;
};

}  // namespace profagent
