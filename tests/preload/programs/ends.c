// Works for 300 ms, then ends in the way that its argument names. Exit status 7 wherever there is one.
#include <assert.h>
#include <sched.h>
#include <sys/resource.h>

#include "tests/preload/programs/program.h"

WORK(work_before_end)
WORK(work_in_atexit)
WORK(work_in_thread)
WORK(work_in_destructor)

static bool g_work_in_destructor;
__attribute__((destructor)) static void AtUnload(void) {
  if (g_work_in_destructor) work_in_destructor(200);
}

static void AtExit(void) { work_in_atexit(200); }

static void* CallExit(void* unused) { exit(7); }
static void* CallUnderscoreExit(void* unused) { _exit(7); }
static void* RaiseAbort(void* unused) { abort(); }
static void* Fault(void* unused) {
  int* volatile nowhere = (int*)8;  // volatile: the compiler must not see it coming
  *nowhere = 1;
  return NULL;
}
static void* WorkAndExit(void* unused) {
  work_in_thread(300);
  exit(7);
}
static void* WorkForever(void* unused) {
  for (;;) work_in_thread(50);
  return NULL;
}

static void RunThread(void* (*start)(void*)) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, start, NULL) == 0);
  for (;;) pause();
}

WHOLE_FUNCTION static int Recurse(volatile char* above) {
  volatile char here[512];
  here[0] = above[0];
  return Recurse(here) + here[0];
}

static void RaiseTerm(void) {
  raise(SIGTERM);
  work_in_atexit(200);
}

static pthread_barrier_t g_barrier;
static void* ExitTogether(void* unused) {
  pthread_barrier_wait(&g_barrier);
  exit(7);
}

static void OnTermExit(int number) { exit(7); }
static void OnTermReturn(int number) {}

static volatile sig_atomic_t g_terminated;
static void OnTermRemember(int number) { g_terminated = 1; }

// The kernel finds no room for the frame of a handler, and makes it a SIGSEGV: no instruction has faulted, nor would it again.
static void RaiseWithoutStack(void) {
  stack_t alternate = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  REQUIRE(sigaltstack(&alternate, NULL) == 0);
  signal(SIGUSR1, OnTermReturn);
  __asm__ volatile("mov %%rsp, %%r15; mov $4096, %%rsp; syscall; mov %%r15, %%rsp"
                   :
                   : "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                   : "rcx", "r11", "r15", "memory");
}

int main(int argc, char** argv) {
  REQUIRE(argc >= 2);
  const char* how = argv[1];
  bool forever = Is(how, "wait") || Is(how, "idle");
  if (Is(how, "own_handler")) signal(SIGTERM, OnTermRemember);
  if (Is(how, "exit_in_handler")) signal(SIGTERM, OnTermExit);
  if (!forever) work_before_end(300);

  if (Is(how, "return")) return 7;
  if (Is(how, "exit")) exit(7);
  if (Is(how, "_exit")) _exit(7);
  if (Is(how, "_Exit")) _Exit(7);
  if (Is(how, "syscall_exit_group")) syscall(SYS_exit_group, 7);
  if (Is(how, "quick_exit")) quick_exit(7);
  if (Is(how, "atexit")) {
    atexit(AtExit);
    return 7;
  }
  if (Is(how, "destructor")) {
    g_work_in_destructor = true;
    return 7;
  }
  if (Is(how, "term_in_atexit")) {  // the signal comes while exit is under way
    atexit(RaiseTerm);
    return 98;
  }
  if (Is(how, "forked_init")) {
    REQUIRE(unshare(CLONE_NEWPID) == 0);
    pid_t init = fork();
    if (init != 0) {
      ExpectExit(init, 7);
      return 7;
    }
    how = "init";
  }
  if (Is(how, "init")) {  // process 1 of a container: SIGTERM does nothing to it by default
    REQUIRE(getpid() == 1);
    raise(SIGTERM);
    raise(SIGPROF);
    kill(getpid(), SIGTERM);
    work_before_end(200);
    return 7;
  }
  if (Is(how, "two_exits")) {
    pthread_barrier_init(&g_barrier, NULL, 4);
    pthread_t thread;
    for (int i = 0; i < 3; ++i) REQUIRE(pthread_create(&thread, NULL, ExitTogether, NULL) == 0);
    ExitTogether(NULL);
  }
  if (Is(how, "heap_corruption")) {  // libc aborts inside of malloc, whose lock it holds
    char* volatile block = malloc(100);
    free(block);
    free(block);
    return 98;
  }
  if (Is(how, "thread_exit")) RunThread(CallExit);
  if (Is(how, "thread__exit")) RunThread(CallUnderscoreExit);
  if (Is(how, "thread_abort")) RunThread(RaiseAbort);
  if (Is(how, "thread_segv")) RunThread(Fault);
  if (Is(how, "pthread_exit")) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, WorkAndExit, NULL) == 0);
    pthread_exit(NULL);
  }
  if (Is(how, "threads_at_work")) {
    pthread_t thread;
    for (int i = 0; i < 4; ++i) REQUIRE(pthread_create(&thread, NULL, WorkForever, NULL) == 0);
    work_before_end(200);
    return 7;
  }
  if (Is(how, "abort")) abort();
  if (Is(how, "segv")) Fault(NULL);
  if (Is(how, "no_room_for_frame")) RaiseWithoutStack();
  if (Is(how, "stack_overflow")) return Recurse("x");
  if (Is(how, "fpe")) {
    volatile int zero = 0;
    return 7 / zero;
  }
  if (Is(how, "ill")) __builtin_trap();
  if (Is(how, "raise")) {  // raise NUMBER
    raise(atoi(argv[2]));
    return 98;  // the signal should have ended us
  }
  if (Is(how, "kill_self")) {
    kill(getpid(), atoi(argv[2]));
    return 98;
  }
  if (Is(how, "second_signal_is_blocked")) {  // dies of a signal that it first had blocked
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGTERM);
    work_before_end(200);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    return 98;
  }
  if (Is(how, "own_handler") || Is(how, "exit_in_handler")) {
    Say("ready\n");
    while (!g_terminated) work_before_end(10);
    return 7;
  }
  if (Is(how, "ignored")) {  // as under nohup: SIGHUP is ignored when we start
    struct sigaction action;
    REQUIRE(sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    raise(SIGHUP);
    return 7;
  }
  if (Is(how, "restored")) {  // a handler set and taken back: the default is the default again
    signal(SIGTERM, OnTermReturn);
    raise(SIGTERM);
    REQUIRE(signal(SIGTERM, SIG_DFL) == OnTermReturn);
    raise(SIGTERM);
    return 98;
  }
  if (Is(how, "abort_handled") || Is(how, "abort_once") ||
      Is(how, "assert_handled")) {  // the handler returns, and abort kills
    struct sigaction action = {.sa_handler = OnTermReturn};
    if (Is(how, "abort_once")) action.sa_flags = SA_RESETHAND;
    sigaction(SIGABRT, &action, NULL);
    if (Is(how, "assert_handled")) {
      REQUIRE(freopen("/dev/null", "w", stderr) != NULL);
      assert(argc == 1);
    }
    abort();
  }
  if (Is(how, "raised_abort")) {  // the handler returns, and so does raise
    signal(SIGABRT, OnTermReturn);
    raise(SIGABRT);
    kill(getpid(), SIGABRT);
    struct sigaction action;
    REQUIRE(sigaction(SIGABRT, NULL, &action) == 0 && action.sa_handler == OnTermReturn);
    work_before_end(200);
    return 7;
  }
  if (Is(how, "reset_hand")) {
    struct sigaction action = {.sa_handler = OnTermReturn, .sa_flags = SA_RESETHAND};
    sigaction(SIGTERM, &action, NULL);
    raise(SIGTERM);
    raise(SIGTERM);
    return 98;
  }
  if (Is(how, "wait")) {
    work_before_end(300);
    Say("ready\n");
    for (;;) work_before_end(50);
  }
  if (Is(how, "idle")) {
    work_before_end(300);
    Say("ready\n");
    for (;;) pause();
  }
  return 97;
}
