// Starts children in every way there is, works between them, and expects each to end as told.
#include <sched.h>
#include <spawn.h>

#include "tests/preload/programs/program.h"

WORK(parent_work)
WORK(child_work)

extern char** environ;

static char* const kTrue[] = {"/bin/true", NULL};
static char* const kFalse[] = {"/bin/false", NULL};

static char g_clone_stack[64 << 10] __attribute__((aligned(16)));
static int InCloneExit(void* unused) {
  REQUIRE(getpid() == 1);
  child_work(50);
  exit(5);
}
static int InClone(void* unused) {
  execve(kFalse[0], kFalse, environ);
  _exit(99);
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  int times = argc > 2 ? atoi(argv[2]) : 1;
  for (int i = 0; i < times; ++i) {
    if (Is(how, "vfork_exec")) {
      pid_t child = vfork();
      if (child == 0) {
        execve(kFalse[0], kFalse, environ);
        _exit(99);
      }
      ExpectExit(child, 1);
    } else if (Is(how, "vfork__exit")) {
      pid_t child = vfork();
      if (child == 0) _exit(5);
      ExpectExit(child, 5);
    } else if (
        Is(how,
           "vfork_works")) {  // a vfork child shares our memory: what it does must not be recorded as ours
      pid_t child = vfork();
      if (child == 0) {
        prctl(PR_SET_NAME, "child");
        child_work(100);
        _exit(5);
      }
      ExpectExit(child, 5);
    } else if (Is(how, "posix_spawn")) {
      pid_t child;
      REQUIRE(posix_spawn(&child, kFalse[0], NULL, NULL, kFalse, environ) == 0);
      ExpectExit(child, 1);
    } else if (Is(how, "posix_spawn_missing")) {
      pid_t child;
      char* const missing[] = {"/nonexistent", NULL};
      REQUIRE(posix_spawn(&child, missing[0], NULL, NULL, missing, environ) == ENOENT);
    } else if (Is(how, "posix_spawnp")) {
      pid_t child;
      char* const name[] = {"false", NULL};
      REQUIRE(posix_spawnp(&child, "false", NULL, NULL, name, environ) == 0);
      ExpectExit(child, 1);
    } else if (Is(how, "system")) {
      REQUIRE(WEXITSTATUS(system("exit 4")) == 4);
    } else if (Is(how, "popen")) {
      char text[16] = "";
      FILE* pipe = popen("echo hello", "r");
      REQUIRE(pipe != NULL && fgets(text, sizeof text, pipe) != NULL && Is(text, "hello\n"));
      REQUIRE(pclose(pipe) == 0);
    } else if (Is(how, "clone_vm")) {  // what posix_spawn does inside, done by hand
      pid_t child =
          clone(InClone, g_clone_stack + sizeof g_clone_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
      REQUIRE(child > 0);
      ExpectExit(child, 1);
    } else if (Is(how, "clone_same_pid")) {  // run as process 1: so is the child
      REQUIRE(getpid() == 1);
      pid_t child = clone(InCloneExit, g_clone_stack + sizeof g_clone_stack, CLONE_NEWPID | SIGCHLD, NULL);
      REQUIRE(child > 0);
      ExpectExit(child, 5);
    } else if (Is(how, "raw_fork")) {  // libc's fork is not called: handlers of pthread_atfork do not run
      pid_t child = (pid_t)syscall(SYS_fork);
      if (child == 0) {
        child_work(50);
        syscall(SYS_exit_group, 5);
      }
      ExpectExit(child, 5);
    } else if (Is(how, "fork_exec")) {
      pid_t child = fork();
      if (child == 0) {
        execv(kTrue[0], kTrue);
        _exit(99);
      }
      ExpectExit(child, 0);
    } else {
      return 97;
    }
    parent_work(10);
  }
  parent_work(200);
  return 0;
}
