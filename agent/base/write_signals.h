// A write that sends no signal to the application.
//
// Context:  every one but `signal`, where it is used only for a line about a lost profile: raw system calls.
// Promises: as long as it lives, a write of this thread raises neither SIGPIPE (a reader that left) nor SIGXFSZ (a limit
//           on the size of files), and is not stopped by SIGTTOU (a terminal that belongs to another job); what came of
//           it is taken out of the queue again. One that waited there before is the application's and stays.
#pragma once

#include <signal.h>
#include <time.h>

#include <cstdint>

#include "agent/base/holding.h"
#include "agent/base/raw_syscall.h"

namespace profagent {

class WriteSignalsHeld : private Holding {
 public:
  WriteSignalsHeld() : Holding([](Holding* self) { static_cast<WriteSignalsHeld*>(self)->Release(); }) {
    uint64_t pending = 0;
    RawSyscall(SYS_rt_sigpending, &pending, sizeof pending);
    ours_ = kSent & ~pending;
    uint64_t held = kSent | uint64_t{1} << (SIGTTOU - 1);
    RawSyscall(SYS_rt_sigprocmask, SIG_BLOCK, &held, &mask_, sizeof mask_);
  }
  ~WriteSignalsHeld() { Release(); }
  WriteSignalsHeld(const WriteSignalsHeld&) = delete;
  WriteSignalsHeld& operator=(const WriteSignalsHeld&) = delete;

 private:
  void Release() {
    struct timespec now = {0, 0};
    while (RawSyscall(SYS_rt_sigtimedwait, &ours_, nullptr, &now, sizeof ours_) > 0) {
    }
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask_, nullptr, sizeof mask_);
  }

  static constexpr uint64_t kSent =
      uint64_t{1} << (SIGPIPE - 1) | uint64_t{1} << (SIGXFSZ - 1);  // of the kernel's set
  uint64_t ours_ = 0;
  uint64_t mask_ = 0;
};

}  // namespace profagent
