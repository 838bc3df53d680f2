// Starts a program by both of glibc 2.39's functions, which another library has here (newer_libc_library.c).
//
//   pidfd_spawn NAME PATH    with SIGPROF ignored and blocked
#include <signal.h>
#include <spawn.h>
#include <stdio.h>

int pidfd_spawn(int*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*, char* const[],
                char* const[]);
int pidfd_spawnp(int*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                 char* const[], char* const[]);
extern char** environ;

int main(int argc, char** argv) {
  (void)argc;
  signal(SIGPROF, SIG_IGN);
  sigset_t it;
  sigemptyset(&it);
  sigaddset(&it, SIGPROF);
  sigprocmask(SIG_BLOCK, &it, NULL);
  int descriptor = -1;
  int error = pidfd_spawn(&descriptor, argv[2], NULL, NULL, argv + 2, environ);
  printf("%d %d\n", error, descriptor);
  error = pidfd_spawnp(&descriptor, argv[1], NULL, NULL, argv + 2, environ);
  printf("%d %d\n", error, descriptor);
  return 0;
}
