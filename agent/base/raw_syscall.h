// System calls without libc: no errno, no cancellation point, no interposable symbol.
//
// Context: every one, `signal` included. The result is the kernel's own: -errno on failure.
// Why not libc's `syscall`: it writes errno, and we stand before it (interpose/syscall_hook.cc).
#pragma once

#include <sys/syscall.h>

#include <cstdint>
#include <type_traits>

#include "agent/base/signal_safe.h"

namespace profagent {

#if defined(__x86_64__)
PROF_ALWAYS_INLINE long RawSyscall6(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
#else
#error "agent/base/raw_syscall.h: write the system call sequence of this architecture"
#endif

template <class T>
PROF_ALWAYS_INLINE long SyscallArgument(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}
PROF_ALWAYS_INLINE long SyscallArgument(decltype(nullptr)) { return 0; }

// RawSyscall(SYS_write, fd, data, size)
template <class... Args>
PROF_ALWAYS_INLINE long RawSyscall(long number, Args... args) {
  static_assert(sizeof...(Args) <= 6);
  long a[6] = {SyscallArgument(args)...};
  return RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// The kernel's error of a raw result, or 0.
PROF_ALWAYS_INLINE int SyscallError(long result) {
  return result < 0 && result >= -4095 ? static_cast<int>(-result) : 0;
}

}  // namespace profagent
