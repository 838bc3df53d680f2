// posix_spawn as programs linked before 2012 call it, and as today's do: only the old one runs a script that has no first line.
//
//   old_spawn SCRIPT       prints the old one's exit status of the script, and the new one's error
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

int old_posix_spawn(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                    char* const[], char* const[]);
__asm__(".symver old_posix_spawn, posix_spawn@GLIBC_2.2.5");
extern char** environ;

int main(int argc, char** argv) {
  (void)argc;
  char* arguments[] = {argv[1], NULL};
  pid_t child;
  int status = -1;
  int error = old_posix_spawn(&child, argv[1], NULL, NULL, arguments, environ);
  if (error == 0) waitpid(child, &status, 0);
  printf("old: %s, %d\n", strerrorname_np(error), WEXITSTATUS(status));
  error = posix_spawn(&child, argv[1], NULL, NULL, arguments, environ);
  printf("new: %s\n", strerrorname_np(error));
  return 0;
}
