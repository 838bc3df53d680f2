// Works in as many different call stacks as there are paths through a binary tree of calls: fills a small ledger.
#include "tests/preload/programs/program.h"

static unsigned g_random = 1;
static long g_until_nanos;

WHOLE_FUNCTION static int Left(int depth);
WHOLE_FUNCTION static int Right(int depth);

static int Next(int depth) {
  if (depth == 0) {
    for (volatile int i = 0; i < 2000; ++i) {
    }
    return 1;
  }
  g_random = g_random * 1664525 + 1013904223;
  return (g_random >> 16) & 1 ? Left(depth - 1) : Right(depth - 1);
}
static int Left(int depth) { return Next(depth) + 1; }
static int Right(int depth) { return Next(depth) + 2; }

static void* ExitNow(void* unused) { exit(7); }

// many_stacks MILLIS [return_during_exit MICROS]: main returns so much after another thread called exit.
int main(int argc, char** argv) {
  g_until_nanos = atol(argv[1]) * 1000000;
  int64_t end = ThreadCpuNanos() + g_until_nanos;
  long sum = 0;
  while (ThreadCpuNanos() < end) {
    for (int i = 0; i < 10; ++i) sum += Left(500);
  }
  if (argc > 3 && Is(argv[2], "return_during_exit")) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, ExitNow, NULL) == 0);
    usleep(atoi(argv[3]));
    return 7;
  }
  return sum == 0;
}
