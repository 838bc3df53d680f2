// Reads memory that may not be there, without a fault.
//
// Context: every one, `signal` included. One system call; no descriptor, no handler, no state.
// How:     process_vm_readv on ourselves copies what is mapped and answers EFAULT for the rest. Where a seccomp
//          filter or a kernel without CONFIG_CROSS_MEMORY_ATTACH forbids it, every read fails: the caller
//          then ends its walk, as for unreadable memory. (A pipe or mincore would need descriptors or lie
//          about PROT_NONE.)
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "agent/base/raw_syscall.h"

namespace profagent {

// Bytes copied from `address` to `to`: `size`, or fewer when the range runs into unmapped memory, 0 on
// failure.
PROF_ALWAYS_INLINE size_t SafeRead(uintptr_t address, void* to, size_t size) {
  struct iovec local = {to, size};
  struct iovec remote = {reinterpret_cast<void*>(address), size};
  long pid = RawSyscall(SYS_getpid);
  long copied = RawSyscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0);
  return copied > 0 ? static_cast<size_t>(copied) : 0;
}

}  // namespace profagent
