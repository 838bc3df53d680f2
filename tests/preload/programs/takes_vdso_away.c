// Works in the vDSO, unmaps it (checkpoint tools and sandboxes move it), and ends in the way that its argument names.
// What the agent then wants to read of it is not there: a fault in the agent's own code. Exit status 7 wherever there is
// one.
#include <sys/auxv.h>

#include "tests/preload/programs/program.h"

WHOLE_FUNCTION static void WorkInVdso(int64_t millis) {
  int64_t end = ThreadCpuNanos() + millis * 1000000;
  struct timespec now;
  do {
    for (int i = 0; i < 10000; ++i) clock_gettime(CLOCK_MONOTONIC, &now);
  } while (ThreadCpuNanos() < end);
}

static void UnmapVdso(void) {
  FILE* maps = fopen("/proc/self/maps", "r");
  REQUIRE(maps != NULL);
  char line[512];
  unsigned long start = 0, end = 0;
  while (fgets(line, sizeof line, maps) != NULL && strstr(line, "[vdso]") == NULL) {
  }
  REQUIRE(sscanf(line, "%lx-%lx", &start, &end) == 2 && start == getauxval(AT_SYSINFO_EHDR));
  fclose(maps);
  REQUIRE(munmap((void*)start, end - start) == 0);
}

// The CPU clock without the vDSO.
static int64_t RawThreadCpuNanos(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t KernelsMask(void) {
  uint64_t mask = ~UINT64_C(0);
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
  return mask;
}

static void* FaultOnPage(void* page) {
  *(volatile char*)page = 1;
  return NULL;
}

static char* g_page;
static volatile sig_atomic_t g_repaired;
static void Repair(int number, siginfo_t* info, void* context) {
  REQUIRE(info->si_addr == g_page);  // not a fault of the agent's
  REQUIRE(mprotect(g_page, 4096, PROT_READ | PROT_WRITE) == 0);
  g_repaired = 1;
}

int main(int argc, char** argv) {
  REQUIRE(argc >= 2);
  const char* how = argv[1];
  struct sigaction mine = {.sa_sigaction = Repair, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (Is(how, "own_handler")) REQUIRE(sigaction(SIGSEGV, &mine, NULL) == 0);
  WorkInVdso(400);
  UnmapVdso();

  if (Is(how, "exit")) exit(7);
  if (Is(how, "_exit")) _exit(7);
  if (Is(how, "term")) raise(SIGTERM);
  if (Is(how, "segv")) FaultOnPage((void*)16);
  if (Is(how, "exec_fails") || Is(how, "own_handler") || Is(how, "dump")) {
    int before = dup(0);
    close(before);
    if (Is(how, "dump")) {
      REQUIRE(raise(SIGUSR2) == 0);
    } else {
      REQUIRE(execl("/nonexistent/program", "program", NULL) == -1 && errno == ENOENT);
    }
    REQUIRE(dup(0) == before);
    // Goes on: its signals, its work, its threads are its own.
    for (int64_t end = RawThreadCpuNanos() + 50 * 1000000; RawThreadCpuNanos() < end;) {
    }
    sigset_t mask;
    REQUIRE(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && !sigismember(&mask, SIGSEGV));
    pid_t child = fork();
    if (child == 0) _exit(KernelsMask() == 0 ? 7 : 1);
    ExpectExit(child, 7);
  }
  if (Is(how, "own_handler")) {
    struct sigaction now;
    REQUIRE(sigaction(SIGSEGV, NULL, &now) == 0);
    REQUIRE(now.sa_sigaction == Repair && (now.sa_flags & SA_NODEFER) != 0);
    g_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, FaultOnPage, g_page) == 0 && pthread_join(thread, NULL) == 0);
    REQUIRE(g_repaired);
  }
  return 7;
}
