// A program's own use of one signal, in every way in which the kernel lets it. Each case prints what it saw; the harness
// runs it with and without the agent, whose CPU signal it is. `PROGRAM CASE SIGNAL`.
//
// Here: the signal's handler, and a second thread that does what the first tells it.
#pragma once

#include <poll.h>
#include <semaphore.h>

#include "tests/preload/programs/program.h"

WORK(signal_work)
WORK(thread_work)

static int g_signal;
static sigset_t g_it, g_none;
static pid_t g_main_tid;

// --- what the handler saw

static volatile sig_atomic_t g_count;
static volatile pid_t g_tid;
static volatile siginfo_t g_info;
static sigset_t g_mask_inside;
static volatile uintptr_t g_stack_inside;

static inline void Handle(int number, siginfo_t* info, void* context) {
  int before = errno;
  char here;
  g_stack_inside = (uintptr_t)&here;
  g_info = *info;
  sigprocmask(SIG_BLOCK, NULL, &g_mask_inside);
  g_tid = gettid();
  ++g_count;
  errno = before;
}

static inline void SetHandler(int flags) {
  struct sigaction action = {.sa_sigaction = Handle, .sa_flags = SA_SIGINFO | flags};
  REQUIRE(sigaction(g_signal, &action, NULL) == 0);
}

static inline const char* Who(pid_t tid) {
  return tid == 0 ? "nobody" : tid == g_main_tid ? "main" : "thread";
}

static inline void ShowInfo(const siginfo_t* info) {
  printf("signo %d code %d", info->si_signo == g_signal, info->si_code);
  if (info->si_code == SI_USER || info->si_code == SI_QUEUE || info->si_code == SI_TKILL)
    printf(" pid %d uid %d", info->si_pid == getpid() ? 1 : info->si_pid, info->si_uid == getuid());
  if (info->si_code == SI_QUEUE || info->si_code == SI_TIMER) printf(" value %d", info->si_value.sival_int);
  printf("\n");
}

static inline void Show(const char* when) {
  printf("%s: %d by %s\n", when, (int)g_count, Who(g_tid));
  if (g_count != 0) {
    siginfo_t info = *(siginfo_t*)&g_info;
    ShowInfo(&info);
  }
}

static inline bool Pending(void) {
  sigset_t set;
  REQUIRE(sigpending(&set) == 0);
  return sigismember(&set, g_signal);
}

static inline void Mask(int how) { REQUIRE(pthread_sigmask(how, &g_it, NULL) == 0); }
static inline void Kill(void) { REQUIRE(kill(getpid(), g_signal) == 0); }
static inline void Queue(int value) {
  REQUIRE(sigqueue(getpid(), g_signal, (union sigval){.sival_int = value}) == 0);
}

// --- a second thread that does what it is told, one thing at a time

enum Task {
  kNothing,
  kBlock,
  kUnblock,
  kShowPending,
  kKill,
  kWaitInfo,
  kPoll,
  kSuspend,
  kPpoll,
  kSleep,
  kRead,
  kWork,
  kEnd
};
static sem_t g_go, g_done;
static enum Task g_task;
static pthread_t g_thread;
static pid_t g_thread_tid;
static int g_pipe[2];

static inline void WaitInfo(int millis) {
  siginfo_t info = {0};
  struct timespec time = {millis / 1000, millis % 1000 * 1000000};
  int got = millis < 0 ? sigwaitinfo(&g_it, &info) : sigtimedwait(&g_it, &info, &time);
  if (got == -1) {
    printf("no signal: %s\n", strerror(errno));
  } else {
    ShowInfo(&info);
  }
}

static inline void Suspend(void) {
  int result = sigsuspend(&g_none);
  printf("sigsuspend %d %s\n", result, strerror(errno));
}

static inline void Do(enum Task task) {
  char byte;
  ssize_t result;
  int64_t end;
  struct timespec nap = {0, 300000000};
  switch (task) {
    case kNothing:
    case kEnd:
      break;
    case kBlock:
      Mask(SIG_BLOCK);
      break;
    case kUnblock:
      Mask(SIG_UNBLOCK);
      break;
    case kShowPending:
      printf("pending in thread %d\n", Pending());
      break;
    case kKill:
      Kill();
      break;
    case kWaitInfo:
      WaitInfo(-1);
      break;
    case kPoll:
      WaitInfo(0);
      break;
    case kSuspend:
      Suspend();
      break;
    case kPpoll:
      result = ppoll(NULL, 0, NULL, &g_none);
      printf("ppoll %zd %s\n", result, strerror(errno));
      break;
    case kSleep:
      printf("nanosleep %d\n", nanosleep(&nap, NULL));
      break;
    case kRead:
      errno = 0;
      result = read(g_pipe[0], &byte, 1);
      printf("read %zd %s\n", result, strerror(errno));
      break;
    case kWork:
      end = ThreadCpuNanos() + INT64_C(300000000);
      while (ThreadCpuNanos() < end) thread_work(5);
      break;
  }
}

static inline void* Thread(void* unused) {
  g_thread_tid = gettid();
  enum Task task;
  REQUIRE(sem_post(&g_done) == 0);
  do {
    while (sem_wait(&g_go) != 0) REQUIRE(errno == EINTR);
    task = g_task;
    Do(task);
    REQUIRE(sem_post(&g_done) == 0);
  } while (task != kEnd);
  return NULL;
}

static inline void WaitDone(void) {
  while (sem_wait(&g_done) != 0) REQUIRE(errno == EINTR);
}

static inline void StartThread(void) {
  REQUIRE(sem_init(&g_go, 0, 0) == 0 && sem_init(&g_done, 0, 0) == 0 && pipe(g_pipe) == 0);
  REQUIRE(pthread_create(&g_thread, NULL, Thread, NULL) == 0);
  WaitDone();
}

static inline void Begin(enum Task task) {
  g_task = task;
  REQUIRE(sem_post(&g_go) == 0);
}

static inline void Ask(enum Task task) {
  Begin(task);
  WaitDone();
}

// Until the thread sleeps in the system call that it was told to make.
static inline void UntilAsleep(pid_t tid, long call) {
  char path[64], text[64] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
  for (;;) {
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (size > 0 && text[0] != 'r' && atol(text) == call) return;
    sched_yield();
  }
}

static inline void BeginAsleep(enum Task task, long call) {
  Begin(task);
  UntilAsleep(g_thread_tid, call);
}

// Handled by now, wherever it was handled.
static inline void UntilCount(int count) {
  while (g_count < count) sched_yield();
}

struct Case {
  const char* name;
  void (*run)(void);
};

static inline int RunCase(const struct Case* cases, size_t count, int argc, char** argv) {
  if (argc != 3) return 97;
  g_signal = atoi(argv[2]);
  g_main_tid = getpid();
  sigemptyset(&g_none);
  sigemptyset(&g_it);
  sigaddset(&g_it, g_signal);
  alarm(20);  // what hangs ends
  for (size_t i = 0; i < count; ++i) {
    if (!Is(argv[1], cases[i].name)) continue;
    cases[i].run();
    fflush(stdout);
    return 0;
  }
  return 97;
}
