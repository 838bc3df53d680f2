// The parent works before and after a fork; the child works and ends in the way that the argument names.
#include "tests/preload/programs/program.h"

WORK(parent_work)
WORK(later_work)
WORK(child_work)
WORK(grandchild_work)
WORK(thread_work)

// Ends below the function that names it, as workers do.
static __attribute__((noinline)) void ends_as_told(const char* how, char* program) {
  child_work(2);
  if (Is(how, "short_exec")) execl(program, program, "nothing", NULL);
  _exit(7);
}

static void* InThread(void* unused) {
  thread_work(200);
  return NULL;
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  if (Is(how, "nothing")) return 7;
  parent_work(200);
  if (Is(how, "short") || Is(how, "short_exec")) {  // too short for most to meet a tick of the kernel
    for (int i = 0; i < atoi(argv[2]); ++i) {
      pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) ends_as_told(how, argv[0]);
      ExpectExit(child, 7);
    }
    return 0;
  }
  if (Is(how, "dumped")) {  // each child is asked for a profile before it has run
    for (int i = 0; i < atoi(argv[2]); ++i) {
      pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) ends_as_told(how, argv[0]);
      REQUIRE(kill(child, SIGUSR2) == 0);
      ExpectExit(child, 7);
    }
    return 0;
  }
  if (Is(how, "works_on")) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(7);
    ExpectExit(child, 7);
    later_work(300);
    return 0;
  }
  if (Is(how, "daemon")) {
    REQUIRE(daemon(1, 1) == 0);
    child_work(200);
    Say("done\n");
    return 7;
  }
  if (Is(how, "many")) {  // children that all end at once
    int count = atoi(argv[2]);
    pid_t* children = calloc(count, sizeof *children);
    for (int i = 0; i < count; ++i) {
      children[i] = fork();
      REQUIRE(children[i] >= 0);
      if (children[i] == 0) {
        child_work(50);
        return 7;
      }
    }
    for (int i = 0; i < count; ++i) ExpectExit(children[i], 7);
    parent_work(100);
    return 0;
  }
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    child_work(200);
    if (Is(how, "_exit")) _exit(7);
    if (Is(how, "exit")) exit(7);
    if (Is(how, "return")) return 7;
    if (Is(how, "abort")) abort();
    if (Is(how, "thread")) {
      pthread_t thread;
      REQUIRE(pthread_create(&thread, NULL, InThread, NULL) == 0);
      pthread_join(thread, NULL);
      _exit(7);
    }
    if (Is(how, "grandchild")) {
      pid_t grandchild = fork();
      if (grandchild == 0) {
        grandchild_work(200);
        _exit(7);
      }
      ExpectExit(grandchild, 7);
      _exit(7);
    }
    _exit(97);
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (Is(how, "abort")) {
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  } else {
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  }
  parent_work(200);
  printf("%d\n", child);
  return 0;
}
