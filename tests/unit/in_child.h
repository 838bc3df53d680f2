// The exit status of `work` in a process of its own, for what changes a process; 200 + signal if it was killed.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

namespace profagent::testing {

template <class Work>
int InChild(Work&& work) {
  pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 200 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace profagent::testing
