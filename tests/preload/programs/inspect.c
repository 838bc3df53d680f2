// Prints all of the process's state that a program can ask for and that an agent could change: descriptors, signal
// dispositions and masks, limits, threads, timers, directory. Compared byte for byte with a run without the agent.
#include <dirent.h>
#include <dlfcn.h>
#include <fenv.h>
#include <grp.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "tests/preload/programs/program.h"

WORK(inspect_work)

static void PrintDescriptors(void) {
  DIR* directory = opendir("/proc/self/fd");
  REQUIRE(directory != NULL);
  bool open[1024] = {false};
  for (struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != dirfd(directory) && fd < 1024) open[fd] = true;
  }
  closedir(directory);
  for (int fd = 0; fd < 1024; ++fd) {
    if (open[fd]) printf("fd %d flags %x\n", fd, fcntl(fd, F_GETFD));
  }
  int next = dup(0);
  printf("next fd %d\n", next);
  close(next);
}

static void PrintSignals(void) {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    if (sigaction(number, NULL, &action) != 0) continue;
    printf("signal %d handler %p flags %x", number, (void*)action.sa_handler, action.sa_flags & ~0x04000000);
    for (int other = 1; other < NSIG; ++other) {
      if (sigismember(&action.sa_mask, other) == 1) printf(" masks %d", other);
    }
    printf("\n");
  }
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  for (int number = 1; number < NSIG; ++number) {
    if (sigismember(&mask, number) == 1) printf("blocked %d\n", number);
  }
  sigpending(&mask);
  for (int number = 1; number < NSIG; ++number) {
    if (sigismember(&mask, number) == 1) printf("pending %d\n", number);
  }
  stack_t stack;
  sigaltstack(NULL, &stack);
  printf("altstack flags %d size %zu\n", stack.ss_flags, stack.ss_size);
}

static void PrintStatus(void) {
  char line[256];
  FILE* file = fopen("/proc/self/status", "r");
  const char* kSame[] = {
      "Threads:", "SigBlk:", "SigIgn:", "SigPnd:", "ShdPnd:", "NoNewPrivs:", "Umask:", "Seccomp:"};
  while (fgets(line, sizeof line, file) != NULL) {
    for (size_t i = 0; i < sizeof kSame / sizeof *kSame; ++i) {
      if (strncmp(line, kSame[i], strlen(kSame[i])) == 0) fputs(line, stdout);
    }
  }
  fclose(file);
}

int main(int argc, char** argv) {
  errno = 0;
  const char* loader_error = dlerror();
  printf("dlerror %s\n", loader_error != NULL ? loader_error : "none");
  // The state at the start, and again after samples were taken.
  for (int round = 0; round < 2; ++round) {
    PrintDescriptors();
    PrintSignals();
    PrintStatus();
    for (int kind = 0; kind < RLIM_NLIMITS; ++kind) {
      struct rlimit limit;
      if (getrlimit(kind, &limit) == 0) printf("limit %d %lu %lu\n", kind, limit.rlim_cur, limit.rlim_max);
    }
    for (int kind = 0; kind < 3; ++kind) {
      struct itimerval timer;
      getitimer(kind, &timer);
      printf("itimer %d %ld %ld\n", kind, (long)timer.it_interval.tv_usec, (long)timer.it_value.tv_usec);
    }
    char directory[PATH_MAX];
    printf("directory %s\n", getcwd(directory, sizeof directory));
    printf("umask %o\n", umask(022));
    printf("round %d locale %s\n", fegetround(), setlocale(LC_ALL, NULL));
    printf("name %s\n", program_invocation_name);
    printf("dumpable %d parent-death %d\n", prctl(PR_GET_DUMPABLE), ({
             int number = -1;
             prctl(PR_GET_PDEATHSIG, &number);
             number;
           }));
    if (round == 0) {
      // errno, rounding mode and flags of the floating point unit are kept over every sample.
      errno = 4711;
      feclearexcept(FE_ALL_EXCEPT);
      fesetround(FE_UPWARD);
      volatile double third = 1.0;
      int64_t end = ThreadCpuNanos() + 300000000;
      long odd = 0;
      while (ThreadCpuNanos() < end) {
        for (int i = 0; i < 20000; ++i) {
          third = third * 1.0 + 0.0;
          if (errno != 4711) ++odd;
        }
      }
      printf("errno changed %ld times, exceptions %d, value %g\n", odd, fetestexcept(FE_ALL_EXCEPT), third);
      fesetround(FE_TONEAREST);
    }
  }
  return 0;
}
