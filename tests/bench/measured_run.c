// What one program used, and nobody else:
//
//     measured_run FILE [NAME=VALUE...] -- PROGRAM [ARGUMENT...]
//
// runs PROGRAM with this environment alone, writes `user_us system_us peak_kib` of it and of the children that it waited for into
// FILE, and ends with its exit status (128 + the signal that ended it).
//
// Why: a process inherits its parent's peak memory (ru_maxrss) through vfork, fork and exec. What python3 starts never seems to
// use less than python3; what this starts, not less than one MiB.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t program;

static void PassOn(int signo) { kill(program, signo); }

static long Micros(struct timeval time) { return time.tv_sec * 1000000L + time.tv_usec; }

int main(int argc, char** argv) {
  int at = 2;
  while (at < argc && strcmp(argv[at], "--") != 0) ++at;
  if (at + 1 >= argc) {
    fprintf(stderr, "usage: measured_run FILE [NAME=VALUE...] -- PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  argv[at] = NULL;  // ends the environment
  program = fork();
  if (program == 0) {
    execve(argv[at + 1], argv + at + 1, argv + 2);
    perror(argv[at + 1]);
    _exit(127);
  }
  if (program < 0) {
    perror("fork");
    return 2;
  }
  struct sigaction pass_on = {.sa_handler = PassOn};
  sigaction(SIGTERM, &pass_on, NULL);
  int status = 0;
  struct rusage used;
  while (wait4(program, &status, 0, &used) < 0) {
    if (errno != EINTR) {
      perror("wait4");
      return 2;
    }
  }
  FILE* file = fopen(argv[1], "w");
  if (file == NULL ||
      fprintf(file, "%ld %ld %ld\n", Micros(used.ru_utime), Micros(used.ru_stime), used.ru_maxrss) < 0 ||
      fclose(file) != 0) {
    perror(argv[1]);
    return 2;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
