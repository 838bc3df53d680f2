// What every hostile program includes. A program that finds its own expectations broken says so and exits with 99, a
// status that no test expects.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/burn.h"

#define REQUIRE(condition)                                                                       \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      dprintf(2, "%s:%d: %s does not hold (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      _exit(99);                                                                                 \
    }                                                                                            \
  } while (0)

// Written in one piece, so that the harness can wait for it.
static inline void Say(const char* text) {
  size_t size = strlen(text);
  REQUIRE(write(1, text, size) == (ssize_t)size);
}

static inline bool Is(const char* argument, const char* name) { return strcmp(argument, name) == 0; }

// Past libc, where no preloaded library hears of it.
static inline long RawSystemCall(long number, long a, long b, long c, long d) {
  long result;
  register long fourth asm("r10") = d;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                   : "rcx", "r11", "memory");
  return result;
}

// Succeeds when `pid` exits with `status`.
static inline void ExpectExit(pid_t pid, int status) {
  int got;
  REQUIRE(waitpid(pid, &got, 0) == pid);
  REQUIRE(WIFEXITED(got) && WEXITSTATUS(got) == status);
}
