// Memory that is read-only, writable for as long as this lives once somebody has asked.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "agent/base/raw_syscall.h"
#include "agent/unwind/memory_range.h"

namespace profagent {

class Unprotected {
 public:
  // Whole pages of data, never of code. Empty: nothing is protected.
  explicit Unprotected(const MemoryRange& range) : range_(range) {}
  ~Unprotected() {
    if (open_) RawSyscall(SYS_mprotect, range_.start, range_.limit - range_.start, PROT_READ);
  }
  Unprotected(const Unprotected&) = delete;
  Unprotected& operator=(const Unprotected&) = delete;

  // False: the word cannot be written.
  bool TryOpen(const void* word) {
    if (range_.empty() || !range_.Holds(reinterpret_cast<uintptr_t>(word), sizeof(uintptr_t))) return true;
    if (!open_) {
      open_ =
          RawSyscall(SYS_mprotect, range_.start, range_.limit - range_.start, PROT_READ | PROT_WRITE) == 0;
    }
    return open_;
  }

 private:
  MemoryRange range_;
  bool open_ = false;
};

}  // namespace profagent
