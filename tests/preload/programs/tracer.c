// tracer CMD: runs CMD as ltrace does. A signal that comes is kept back over a single step and handed on by its number alone.
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "tests/preload/programs/program.h"

int main(int argc, char** argv) {
  REQUIRE(argc > 1);
  pid_t child = fork();
  if (child == 0) {
    REQUIRE(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    execvp(argv[1], argv + 1);
    _exit(99);
  }
  long kept_back = 0;
  for (int status; waitpid(child, &status, 0) == child;) {
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
    const long signo = WSTOPSIG(status);
    const long hand_on = signo == SIGTRAP ? kept_back : 0;
    kept_back = signo == SIGTRAP ? 0 : signo;
    if (ptrace(kept_back != 0 ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL, (void*)hand_on) != 0)
      REQUIRE(errno == ESRCH);
  }
  return 98;
}
