// How a signal of the program's own is handled, and what is left of it in children, in other programs and at the end.
#include <spawn.h>

#include "tests/preload/programs/own_sigprof.h"

extern char** environ;

static char* g_self;

// SA_RESTART or not, in calls that the kernel restarts.
static void Restart(void) {
  StartThread();
  SetHandler(0);
  BeginAsleep(kRead, SYS_read);
  pthread_kill(g_thread, g_signal);
  WaitDone();
  SetHandler(SA_RESTART);
  BeginAsleep(kRead, SYS_read);
  pthread_kill(g_thread, g_signal);
  UntilCount(2);
  REQUIRE(write(g_pipe[1], "x", 1) == 1);
  WaitDone();
  siginterrupt(g_signal, 1);
  BeginAsleep(kRead, SYS_read);
  pthread_kill(g_thread, g_signal);
  WaitDone();
  printf("%d\n", (int)g_count);
}

static void Flags(void) {
  static char stack[65536];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  REQUIRE(sigaltstack(&alternate, NULL) == 0);
  for (int i = 0; i < 8; ++i) {
    int flags = (i & 1 ? SA_NODEFER : 0) | (i & 2 ? SA_ONSTACK : 0) | (i & 4 ? (int)SA_RESETHAND : 0);
    struct sigaction action = {.sa_sigaction = Handle, .sa_flags = SA_SIGINFO | flags}, after;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaddset(&action.sa_mask, SIGTERM);
    REQUIRE(sigaction(g_signal, &action, NULL) == 0);
    if (i % 3 == 0) raise(g_signal);
    if (i % 3 == 1) Kill();
    if (i % 3 == 2) Queue(i);
    REQUIRE(sigaction(g_signal, NULL, &after) == 0);
    bool on_alternate = g_stack_inside - (uintptr_t)stack < sizeof stack;
    printf("%d: %d %d %d %d %d %d\n", i, (int)g_count, sigismember(&g_mask_inside, g_signal),
           sigismember(&g_mask_inside, SIGUSR2), sigismember(&g_mask_inside, SIGINT), on_alternate,
           after.sa_sigaction == Handle);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("%d %d\n", sigismember(&now, g_signal), sigismember(&now, SIGUSR2));
  }
}

// A handler without SA_ONSTACK that needs more than the alternate stack has, while floating point numbers are in registers.
static void HandleDeep(int number) {
  volatile char room[256 * 1024];
  for (size_t i = 0; i < sizeof room; i += 512) room[i] = (char)number;
  volatile double noise = 3.0;
  for (int i = 0; i < 100; ++i) noise = noise * 1.5 - g_count;
  ++g_count;
}

static void DeepHandler(void) {
  static char stack[16384];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  REQUIRE(sigaltstack(&alternate, NULL) == 0);
  signal(g_signal, HandleDeep);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = g_signal};
  timer_t timer;
  struct itimerspec often = {{0, 500000}, {0, 500000}};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0);
  double sum = 0, other = 1;
  for (long i = 0; g_count < 200; ++i) {
    sum = sum * 0.5 + 1;
    other = other * 0.25 + 3;
    REQUIRE(sum <= 2 && other <= 4);
  }
  timer_delete(timer);
  printf("%g %g\n", sum, other);
}

static void Fork(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  raise(g_signal);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    printf("child pending %d\n", Pending());
    Mask(SIG_UNBLOCK);
    printf("child %d\n", (int)g_count);
    Mask(SIG_BLOCK);
    g_main_tid = gettid();
    StartThread();  // and all is as in the parent
    Kill();
    Ask(kUnblock);
    Show("child");
    fflush(stdout);
    _exit(3);
  }
  ExpectExit(child, 3);
  printf("parent pending %d\n", Pending());
  Ask(kUnblock);
  Mask(SIG_UNBLOCK);
  printf("parent %d\n", (int)g_count);
}

// What the next program finds.
static void AfterExec(void) {
  sigset_t now;
  struct sigaction action;
  sigprocmask(SIG_BLOCK, NULL, &now);
  REQUIRE(sigaction(g_signal, NULL, &action) == 0);
  printf("blocked %d default %d ignored %d pending %d\n", sigismember(&now, g_signal),
         action.sa_handler == SIG_DFL, action.sa_handler == SIG_IGN, Pending());
  if (Pending()) {
    siginfo_t info;
    REQUIRE(sigwaitinfo(&g_it, &info) == g_signal);
    printf("code %d\n", info.si_code);
    printf("pending %d\n", Pending());
  }
}

static char g_number[16];
static char* g_after_exec[] = {NULL, "after_exec", g_number, NULL};

static void RunNext(const char* how) {
  fflush(stdout);
  pid_t child;
  if (Is(how, "spawn")) {
    REQUIRE(posix_spawn(&child, g_self, NULL, NULL, g_after_exec, environ) == 0);
  } else if (Is(how, "vfork")) {
    child = vfork();
    if (child == 0) {
      execv(g_self, g_after_exec);
      _exit(98);
    }
  } else if (Is(how, "vfork_unblock")) {
    child = vfork();
    if (child == 0) {
      sigprocmask(SIG_SETMASK, &g_none, NULL);
      execv(g_self, g_after_exec);
      _exit(98);
    }
  } else {
    child = fork();
    if (child == 0) {
      execv("/nonexistent", g_after_exec);
      execv(g_self, g_after_exec);
      _exit(98);
    }
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child);
  printf("%s %d\n", how, status);
}

static void Exec(void) {
  const char* ways[] = {"fork", "vfork", "spawn", "vfork_unblock"};
  for (int state = 0; state < 4; ++state) {
    if ((state & 1) != 0) signal(g_signal, SIG_IGN);
    if ((state & 1) == 0) SetHandler(0);
    Mask((state & 2) != 0 ? SIG_BLOCK : SIG_UNBLOCK);
    for (int i = 0; i < 4; ++i) {
      printf("state %d\n", state);
      RunNext(ways[i]);
      sigset_t now;
      sigprocmask(SIG_BLOCK, NULL, &now);
      printf("still %d\n", sigismember(&now, g_signal));
    }
  }
}

static void ExecPending(void) {
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  fflush(stdout);
  execv("/nonexistent", g_after_exec);
  printf("pending %d\n", Pending());
  fflush(stdout);
  execv(g_self, g_after_exec);
}

// Handlers that keep all signals away for a while and put the mask back: of the signal itself, and of another, in which it is
// masked.
static volatile sig_atomic_t g_depth, g_nested;

static void HandleMasking(int number) {
  if (g_depth++ != 0) ++g_nested;
  if (++g_count < 4) raise(g_signal);
  sigset_t all, old;
  sigfillset(&all);
  for (int how = 0; how < 2; ++how) {
    REQUIRE(sigprocmask(how == 0 ? SIG_SETMASK : SIG_BLOCK, &all, &old) == 0);
    REQUIRE(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
  }
  --g_depth;
}

static void MaskInHandler(void) {
  struct sigaction action = {.sa_handler = HandleMasking};
  REQUIRE(sigaction(g_signal, &action, NULL) == 0);
  sigaddset(&action.sa_mask, g_signal);
  REQUIRE(sigaction(SIGWINCH, &action, NULL) == 0);
  for (int i = 0; i < 2; ++i) {
    g_count = 0;
    raise(i == 0 ? g_signal : SIGWINCH);
    sigset_t now;
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    printf("handled %d nested %d blocked %d pending %d\n", (int)g_count, (int)g_nested,
           sigismember(&now, g_signal), Pending());
  }
}

// A handler that blocks all signals and returns, which unblocks them; but for one that was blocked before.
static void BlockAll(int number) {
  sigset_t all;
  sigfillset(&all);
  REQUIRE(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
}

static void BlockedInHandler(void) {
  sigset_t one, now;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  REQUIRE(sigprocmask(SIG_BLOCK, &one, NULL) == 0);
  struct sigaction action = {.sa_handler = BlockAll};
  REQUIRE(sigaction(SIGWINCH, &action, NULL) == 0);
  SetHandler(SA_RESTART);
  raise(SIGWINCH);
  REQUIRE(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
  raise(g_signal);
  printf("handled %d blocked %d %d\n", (int)g_count, sigismember(&now, g_signal), sigismember(&now, SIGUSR1));
}

static void ExecNow(int number) { execv(g_self, g_after_exec); }

static void ExecInHandler(void) {
  struct sigaction action = {.sa_handler = ExecNow};
  REQUIRE(sigaction(g_signal, &action, NULL) == 0);
  raise(g_signal);
}

static void FailInHandler(int unused) {
  execv("/nonexistent", g_after_exec);
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  raise(g_signal);
  printf("blocked %d, %d came\n", sigismember(&mask, g_signal), (int)g_count);
}

static void ExecFailsInHandler(void) {  // of another signal, with all blocked
  SetHandler(0);
  struct sigaction action = {.sa_handler = FailInHandler};
  sigfillset(&action.sa_mask);
  REQUIRE(sigaction(SIGTERM, &action, NULL) == 0);
  raise(SIGTERM);
  Show("behind it");
}

static void Die(void) {  // main blocks it, the thread does not
  StartThread();
  Mask(SIG_BLOCK);
  Kill();
  for (;;) pause();
}

static void DieOnUnblock(void) {
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  raise(g_signal);
  signal_work(50);
  printf("alive\n");
  fflush(stdout);
  Ask(kUnblock);
}

static void LiveBlocked(void) {
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  Ask(kKill);
  pthread_kill(g_thread, g_signal);
  signal_work(50);
  printf("alive\n");
}

// From handlers of other signals, in threads that end, in a hurry: each is handled once.
static void Storm(void) {
  SetHandler(SA_RESTART);
  Mask(SIG_BLOCK);
  StartThread();
  Ask(kUnblock);
  Begin(kWork);
  for (int i = 0; i < 5000; ++i) {
    Kill();
    UntilCount(i + 1);
  }
  WaitDone();
  printf("%d %s\n", (int)g_count, Who(g_tid));
}

static void TakerEnds(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  Ask(kUnblock);
  Ask(kEnd);  // the only thread that wanted it
  pthread_join(g_thread, NULL);
  Kill();
  printf("%d pending %d\n", (int)g_count, Pending());
  REQUIRE(pthread_create(&g_thread, NULL, Thread, NULL) == 0);
  WaitDone();
  Ask(kUnblock);
  Show("next");
}

static const struct Case kCases[] = {
    {"restart", Restart},
    {"flags", Flags},
    {"deep_handler", DeepHandler},
    {"fork", Fork},
    {"exec", Exec},
    {"exec_pending", ExecPending},
    {"after_exec", AfterExec},
    {"mask_in_handler", MaskInHandler},
    {"blocked_in_handler", BlockedInHandler},
    {"exec_in_handler", ExecInHandler},
    {"exec_fails_in_handler", ExecFailsInHandler},
    {"die", Die},
    {"die_on_unblock", DieOnUnblock},
    {"live_blocked", LiveBlocked},
    {"storm", Storm},
    {"taker_ends", TakerEnds},
};

int main(int argc, char** argv) {
  g_self = g_after_exec[0] = argv[0];
  if (argc == 3) snprintf(g_number, sizeof g_number, "%s", argv[2]);
  return RunCase(kCases, sizeof kCases / sizeof kCases[0], argc, argv);
}
