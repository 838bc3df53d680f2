// Limits its own address space, or its data, to 160 MiB, then needs 100 of them: in the gap that the agent leaves. Two children
// need them too, after a fork and after an exec; or only a child limits itself (`raw_clone`, `forked`). `lock` keeps all of its
// memory from being swapped instead.
#include <sys/mman.h>
#include <sys/resource.h>

#include "tests/preload/programs/program.h"

enum { kLimit = 160 << 20, kNeeded = 100 << 20 };

WORK(limited_work)

static unsigned char* g_block;

static void Fill(unsigned char with) {
  for (size_t at = 0; at < kNeeded; at += 4096) g_block[at] = with;
}
static void Check(unsigned char filled_with) {
  for (size_t at = 0; at < kNeeded; at += 4096) REQUIRE(g_block[at] == filled_with);
}

int main(int argc, char** argv) {
  if (argc == 2 && (Is(argv[1], "raw_clone") || Is(argv[1], "forked"))) {  // only the child limits itself
    pid_t child = Is(argv[1], "forked") ? fork() : syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child != 0) {
      ExpectExit(child, 7);
      limited_work(200);
      return 7;
    }
    struct rlimit limit = {kLimit, kLimit};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    g_block = malloc(kNeeded);
    REQUIRE(g_block != NULL);
    Fill(1);
    Check(1);
    free(g_block);
    _exit(7);
  }
  if (argc == 2 && Is(argv[1], "lock")) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
  } else if (argc == 2) {
    struct rlimit limit = {kLimit, kLimit};
    if (Is(argv[1], "as")) REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    if (Is(argv[1], "data")) REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
    if (Is(argv[1], "prlimit")) REQUIRE(prlimit(getpid(), RLIMIT_AS, &limit, NULL) == 0);
    limit.rlim_cur = kLimit - (1 << 20);  // again
    REQUIRE(prlimit(0, RLIMIT_AS, &limit, NULL) == 0);
  }
  g_block = malloc(kNeeded);
  REQUIRE(g_block != NULL);
  Fill(1);
  if (argc == 2) {
    pid_t child = fork();
    if (child == 0) {  // its ledger is a new one: what the parent's left behind goes, and no more
      Check(1);
      free(g_block);
      execl("/proc/self/exe", "own_limits", "executed", "child", NULL);
      _exit(98);
    }
    ExpectExit(child, 7);
  }
  limited_work(200);
  Check(1);
  return 7;
}
