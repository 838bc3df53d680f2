// Works, then becomes another program (or fails to) through each function of the exec family.
#include "tests/preload/programs/program.h"

WORK(work_before_exec)
WORK(work_after_failure)

extern char** environ;
static char** g_next;

static void* ExecInThread(void* unused) {
  execv(g_next[0], g_next);
  _exit(99);
}

int main(int argc, char** argv) {
  REQUIRE(argc >= 3);
  const char* how = argv[1];
  char** next = argv + 2;
  g_next = next;
  if (Is(how,
         "loop")) {  // loop COUNT: becomes itself COUNT times. A tick that survives exec kills the next image.
    int left = atoi(argv[2]);
    if (left == 0) return 7;
    char text[16];
    snprintf(text, sizeof text, "%d", left - 1);
    for (int i = 0; i < 20; ++i) SPIN();
    execl("/proc/self/exe", argv[0], "loop", text, NULL);
    _exit(99);
  }
  work_before_exec(200);
  if (Is(how, "execv")) execv(next[0], next);
  if (Is(how, "execve")) execve(next[0], next, environ);
  if (Is(how, "execvp")) execvp(next[0], next);
  if (Is(how, "execvpe")) execvpe(next[0], next, environ);
  if (Is(how, "execl")) execl(next[0], next[0], next[1], NULL);
  if (Is(how, "execlp")) execlp(next[0], next[0], next[1], NULL);
  if (Is(how, "execle")) execle(next[0], next[0], next[1], NULL, environ);
  if (Is(how, "fexecve")) fexecve(open(next[0], O_RDONLY | O_CLOEXEC), next, environ);
  if (Is(how, "execveat")) execveat(AT_FDCWD, next[0], next, environ, 0);
  if (Is(how, "raw_execve")) RawSystemCall(SYS_execve, (long)next[0], (long)next, (long)environ, 0);
  if (Is(how, "syscall_execve")) syscall(SYS_execve, next[0], next, environ);
  if (Is(how, "syscall_execveat")) syscall(SYS_execveat, AT_FDCWD, next[0], next, environ, 0);
  if (Is(how, "thread")) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, ExecInThread, NULL) == 0);
    for (;;) pause();
  }
  if (Is(how, "no_environment")) {
    char* const none[] = {NULL};
    execve(next[0], next, none);
  }
  if (Is(how, "missing")) {  // the exec fails; the program is still there and so is its profile
    for (int i = 0; i < 50; ++i) {
      REQUIRE(execv("/nonexistent/program", next) == -1 && errno == ENOENT);
      REQUIRE(execv("/", next) == -1 && errno == EACCES);
      REQUIRE(syscall(SYS_execve, "/", next, environ) == -1 && errno == EACCES);
      REQUIRE(syscall(SYS_execve, 1, NULL, NULL) == -1 && errno == EFAULT);
    }
    work_after_failure(300);
    return 7;
  }
  return 98;
}
