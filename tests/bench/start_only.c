// Ends in the first line of main, by a system call that nobody sees: what it takes longer with the agent than without is the
// agent's start, no profile is written (startup.py).
//
//   start_only        that
//   start_only costs  instead says what a page fault and a system call cost here: a start consists of them
//   start_only forks  says what a child costs that is forked and ends at once: microseconds of CPU time, its own and its parent's
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Not libc's syscall, which the agent stands before.
static long system_call(long number, long argument) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(argument) : "rcx", "r11", "memory");
  return result;
}

static double nanos(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int say_costs(void) {
  enum { kPages = 5000, kPage = 4096, kCalls = 20000 };
  char* pages =
      mmap(NULL, (size_t)kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return 1;
  madvise(pages, (size_t)kPages * kPage, MADV_NOHUGEPAGE);
  double start = nanos();
  for (int i = 0; i < kPages; ++i) pages[(size_t)i * kPage] = 1;
  double faulted = nanos();
  for (int i = 0; i < kCalls; ++i) system_call(SYS_getppid, 0);
  double called = nanos();
  printf("a page fault takes %.2f us here, a system call %.2f us\n", (faulted - start) / kPages / 1e3,
         (called - faulted) / kCalls / 1e3);
  return 0;
}

static double micros_of(int who) {
  struct rusage usage;
  getrusage(who, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int say_fork_costs(void) {
  enum { kForks = 300 };
  double before = micros_of(RUSAGE_SELF);
  for (int i = 0; i < kForks; ++i) {
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
  }
  printf("%.1f %.1f\n", micros_of(RUSAGE_CHILDREN) / kForks, (micros_of(RUSAGE_SELF) - before) / kForks);
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return strcmp(argv[1], "forks") == 0 ? say_fork_costs() : say_costs();
  return (int)system_call(SYS_exit_group, 0);
}
