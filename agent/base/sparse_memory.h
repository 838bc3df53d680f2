// Tables that are reserved large and touched here and there.
//
// Context: every one. Memory from the kernel, zeroed. Not in core dumps, and never of huge pages: with those (`always`, on many
//          machines) the first touch of each 2 MiB would clear and keep all of them.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "agent/base/raw_syscall.h"

namespace profagent {

// The address, or the kernel's -errno (SyscallError). `place`: in place of what is mapped there.
inline long MapSparse(size_t size, void* place = nullptr) {
  int fixed = place != nullptr ? MAP_FIXED : 0;
  long memory = RawSyscall(SYS_mmap, place, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  if (SyscallError(memory) != 0) return memory;
  constexpr size_t kHugePage = size_t{2} << 20;
  if (size >= kHugePage) RawSyscall(SYS_madvise, memory, size, MADV_NOHUGEPAGE);
  RawSyscall(SYS_madvise, memory, size, MADV_DONTDUMP);
  return memory;
}

}  // namespace profagent
