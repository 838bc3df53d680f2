// Work whose distribution over threads and functions is known exactly: each piece of it lasts until the thread's own CPU
// clock says so. Prints the CPU time that the whole process used, by getrusage, at the end of main.
#include <sys/resource.h>

#include "tests/preload/programs/program.h"

WORK(total_work)
WORK(three_parts)
WORK(one_part)

static long g_millis;

static void* Total(void* unused) {
  total_work(g_millis);
  return NULL;
}

static void* Named(void* number) {
  char name[16];
  snprintf(name, sizeof name, "equal-%d", (int)(intptr_t)number);
  prctl(PR_SET_NAME, name);
  total_work(g_millis);
  return NULL;
}

static void* Blocked(void* unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  total_work(g_millis);
  return NULL;
}

// 3:1 in pieces of irregular length, so that no piece length can be in step with the sampling period. A function that ran
// over its time (a busy machine) owes that time, so the sums are 3:1 to the length of one spin.
static void* Ratio(void* unused) {
  int64_t left[2] = {g_millis * 750000, g_millis * 250000};
  unsigned seed = 12345;
  while (left[0] > 0 || left[1] > 0) {
    seed = seed * 1103515245 + 12345;
    long piece = 1 + (long)((seed >> 16) % 7);
    int which = left[0] > 3 * left[1] ? 0 : 1;
    int64_t before = ThreadCpuNanos();
    if (which == 0) {
      three_parts(piece);
    } else {
      one_part(piece);
    }
    left[which] -= ThreadCpuNanos() - before;
  }
  return NULL;
}

// Nearly all of its time is spent in the kernel.
WHOLE_FUNCTION static void* InKernel(void* unused) {
  static char buffer[1 << 20];
  int fd = open("/dev/zero", O_RDONLY);
  int64_t end = ThreadCpuNanos() + g_millis * 1000000;
  while (ThreadCpuNanos() < end) REQUIRE(read(fd, buffer, sizeof buffer) == sizeof buffer);
  close(fd);
  return NULL;
}

// CPU bursts far shorter than any tick, between sleeps: what servers do. Time is lost where ticks are only counted while
// they happen to hit the burst.
static void* Bursts(void* unused) {
  int64_t end = g_millis * 1000000;
  while (ThreadCpuNanos() < end) {
    for (int i = 0; i < 8; ++i) SPIN();
    usleep(100);
  }
  return NULL;
}

int main(int argc, char** argv) {
  REQUIRE(argc == 4);
  const char* how = argv[1];
  int count = atoi(argv[2]);
  g_millis = atol(argv[3]);
  void* (*start)(void*) = Is(how, "total") || Is(how, "short") ? Total
                          : Is(how, "equal")                   ? Named
                          : Is(how, "ratio")                   ? Ratio
                          : Is(how, "kernel")                  ? InKernel
                          : Is(how, "bursts")                  ? Bursts
                          : Is(how, "blocked")                 ? Blocked
                                                               : NULL;
  REQUIRE(start != NULL);
  int at_once = Is(how, "short") ? 2 : count;
  pthread_t threads[64];
  for (int done = 0; done < count; done += at_once) {
    if (count == 1) {
      start(NULL);
      break;
    }
    for (int i = 0; i < at_once; ++i) {
      REQUIRE(pthread_create(&threads[i], NULL, start, (void*)(intptr_t)i) == 0);
    }
    for (int i = 0; i < at_once; ++i) pthread_join(threads[i], NULL);
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%.6f\n", (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
  return 0;
}
