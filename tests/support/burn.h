// Work whose CPU time is known: WORK(name) defines a function `name(millis)` that keeps one thread busy until it has
// spent that much CPU time by the thread's own clock, and that is a frame of its own in every sample.
//
// Why the clock and not a count of iterations: two identical loops differ by up to a factor of two with their
// alignment, and a virtual machine changes speed under us. The clock is read every few 10 us, so nearly all samples have
// the function itself as their leaf.
#pragma once

#include <stdint.h>
#include <time.h>

// Keeps its name and its frame: not inlined, not cloned as NAME.isra.0.
#ifdef __clang__
#define WHOLE_FUNCTION __attribute__((noinline))
#else
#define WHOLE_FUNCTION __attribute__((noipa))
#endif

static inline int64_t ThreadCpuNanos(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#define SPIN()                                     \
  do {                                             \
    for (volatile int spin_ = 0; spin_ < 20000;) { \
      spin_ = spin_ + 1;                           \
    }                                              \
  } while (0)

#ifdef __cplusplus
#define WORK_LINKAGE extern "C"
#else
#define WORK_LINKAGE
#endif

#define WORK(name)                                                \
  WORK_LINKAGE __attribute__((noinline)) void name(long millis);  \
  WORK_LINKAGE __attribute__((noinline)) void name(long millis) { \
    int64_t end = ThreadCpuNanos() + millis * INT64_C(1000000);   \
    do {                                                          \
      SPIN();                                                     \
    } while (ThreadCpuNanos() < end);                             \
    __asm__ volatile("");                                         \
  }
