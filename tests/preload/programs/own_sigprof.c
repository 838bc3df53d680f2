// Who gets a signal of the program's own, and when: handlers, waits, masks, descriptors.
#include "tests/preload/programs/own_sigprof.h"

#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>

static int g_signal_fd = -1;

// Process-directed: to the thread that does not block it.
static void KillThreadWants(void) {
  SetHandler(0);
  StartThread();
  Mask(SIG_BLOCK);
  Kill();
  UntilCount(1);
  Show("kill");
  Queue(7);
  UntilCount(2);
  Show("sigqueue");
  BeginAsleep(kRead, SYS_read);
  Kill();
  WaitDone();
  Show("asleep");
  printf("pending %d\n", Pending());
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
}

static void KillMainWants(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();  // inherits it
  Mask(SIG_UNBLOCK);
  Ask(kKill);
  UntilCount(1);
  Show("kill");
  Ask(kShowPending);
  Ask(kUnblock);
  printf("%d\n", (int)g_count);
}

static void TimerThreadWants(void) {
  SetHandler(SA_RESTART);
  StartThread();
  Mask(SIG_BLOCK);
  struct itimerval interval = {{0, 20000}, {0, 20000}};
  if (g_signal == SIGPROF) {
    REQUIRE(setitimer(ITIMER_PROF, &interval, NULL) == 0);
    Begin(kWork);
    WaitDone();
    signal_work(200);
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    // 25 by the clock that the timer is for; ours would be 125 at least.
    printf("%s\n", g_count >= 10 && g_count <= 60 ? "own ticks" : "foreign ticks");
    printf("%s %d\n", Who(g_tid), g_info.si_code);
  }
  int before = g_count;
  struct sigevent event = {
      .sigev_notify = SIGEV_SIGNAL, .sigev_signo = g_signal, .sigev_value.sival_int = 11};
  timer_t timer;
  struct itimerspec once = {{0, 0}, {0, 1000000}};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
  UntilCount(before + 1);
  siginfo_t info = *(siginfo_t*)&g_info;
  ShowInfo(&info);
}

// A thread that begins with all blocked, and sets another mask past libc (the Go runtime).
static void* UnblockPastLibc(void* unused) {
  uint64_t none = 0;
  REQUIRE(RawSystemCall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof none) == 0);
  sigset_t old;
  REQUIRE(pthread_sigmask(SIG_SETMASK, &g_it, &old) == 0 && !sigismember(&old, g_signal));
  REQUIRE(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
  struct sigevent event = {
      .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = g_signal, .sigev_value.sival_int = 5};
  event._sigev_un._tid = g_thread_tid = gettid();
  timer_t timer;
  struct itimerspec once = {{0, 0}, {0, 1000000}};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
  UntilCount(1);
  Show("timer");
  REQUIRE(pthread_kill(pthread_self(), g_signal) == 0);
  Show("pthread_kill");
  return unused;
}

static void UnblockedPastLibc(void) {
  SetHandler(0);
  sigset_t all;
  sigfillset(&all);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
  REQUIRE(pthread_create(&g_thread, NULL, UnblockPastLibc, NULL) == 0 && pthread_join(g_thread, NULL) == 0);
}

// All block it.
static void WaitBefore(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  for (int i = 0; i < 3; ++i) {
    BeginAsleep(kWaitInfo, SYS_rt_sigtimedwait);
    if (i != 1) Kill();
    if (i == 1) Queue(3);
    WaitDone();
  }
  BeginAsleep(kWaitInfo, SYS_rt_sigtimedwait);
  pthread_kill(g_thread, g_signal);
  WaitDone();
  printf("pending %d handled %d\n", Pending(), (int)g_count);
}

static void WaitAfter(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  printf("pending %d\n", Pending());
  Ask(kShowPending);
  WaitInfo(0);
  WaitInfo(0);
  Queue(5);
  Queue(6);
  Ask(kPoll);  // another thread than the kernel would have chosen
  if (g_signal < SIGRTMIN) Ask(kPoll);
  Ask(kKill);
  int got = 0;
  REQUIRE(sigwait(&g_it, &got) == 0 && got == g_signal);
  Ask(kKill);
  Ask(kWaitInfo);
  printf("handled %d\n", (int)g_count);
}

static void UnblockAfter(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  Kill();
  Kill();
  Ask(kShowPending);
  Ask(kUnblock);
  Show("unblocked");
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
}

static void* Nothing(void* unused) { return NULL; }

static void BeginAfter(void) {  // a thread that begins with it unblocked
  SetHandler(0);
  Mask(SIG_BLOCK);
  Kill();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setsigmask_np(&attributes, &g_none) == 0);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, Nothing, NULL) == 0);
  pthread_join(thread, NULL);
  printf("%d\n", (int)g_count);
  REQUIRE(pthread_create(&thread, &attributes, Nothing, NULL) == 0);
  pthread_join(thread, NULL);
  Show("began");
  printf("pending %d\n", Pending());
}

static void ThreadDirected(void) {
  SetHandler(0);
  StartThread();
  Ask(kBlock);
  pthread_kill(g_thread, g_signal);
  pthread_kill(g_thread, g_signal);
  Ask(kShowPending);
  Mask(SIG_BLOCK);
  printf("pending in main %d\n", Pending());
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
  Ask(kUnblock);
  Show("unblocked");
  Ask(kBlock);
  Mask(SIG_BLOCK);
  Kill();  // one for the process beside one for the thread
  pthread_kill(g_thread, g_signal);
  Ask(kUnblock);
  printf("%d\n", (int)g_count);
  Mask(SIG_UNBLOCK);
  raise(g_signal);
  Show("raised");
}

static void TemporaryMasks(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  struct timespec none = {5, 0};
  int epoll = epoll_create1(0);
  struct epoll_event event;
  for (int i = 0; i < 2; ++i) {
    Ask(kKill);
    Suspend();
    raise(g_signal);
    Suspend();
    Ask(kKill);
    REQUIRE(ppoll(NULL, 0, &none, &g_none) == -1 && errno == EINTR);
    Ask(kKill);
    REQUIRE(pselect(0, NULL, NULL, NULL, &none, &g_none) == -1 && errno == EINTR);
    Ask(kKill);
    REQUIRE(epoll_pwait(epoll, &event, 1, 5000, &g_none) == -1 && errno == EINTR);
    printf("%d pending %d\n", (int)g_count, Pending());
    BeginAsleep(kSuspend, SYS_rt_sigsuspend);
    Kill();
    WaitDone();
    Show("sigsuspend");
    BeginAsleep(kPpoll, SYS_ppoll);
    Kill();
    WaitDone();
    Show("ppoll");
  }
  // And the other way: let through before, blocked in the call, delivered after it.
  Mask(SIG_UNBLOCK);
  int before = g_count;
  struct sigevent event_of_timer = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = g_signal};
  timer_t timer;
  struct itimerspec once = {{0, 0}, {0, 10000000}};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event_of_timer, &timer) == 0 &&
          timer_settime(timer, 0, &once, NULL) == 0);
  struct timespec wait = {0, 50000000};
  printf("ppoll %d\n", ppoll(NULL, 0, &wait, &g_it));
  printf("%d\n", (int)g_count - before);
}

// A signal that comes between the change of the mask and the wait would be waited for in vain.
static void SuspendRace(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  for (int i = 0; i < 20000; ++i) {
    Begin(kKill);
    REQUIRE(sigsuspend(&g_none) == -1 && errno == EINTR);
    WaitDone();
    REQUIRE(g_count == i + 1);
  }
  printf("%d\n", (int)g_count);
}

static void WaitRace(void) {
  Mask(SIG_BLOCK);
  StartThread();
  for (int i = 0; i < 20000; ++i) {
    Begin(kKill);
    int got = 0;
    REQUIRE(sigwait(&g_it, &got) == 0 && got == g_signal);
    WaitDone();
  }
  REQUIRE(!Pending());
  printf("done\n");
}

static void ReadSignalFd(void) {
  struct signalfd_siginfo info;
  memset(&info, 0, sizeof info);
  ssize_t size = read(g_signal_fd, &info, sizeof info);
  if (size == sizeof info) {
    printf("signalfd %d pid %d\n", (int)info.ssi_signo == g_signal, (int)info.ssi_pid == getpid());
  } else {
    printf("signalfd %s\n", strerror(errno));
  }
}

static void SignalFd(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  Kill();  // before there is one
  g_signal_fd = signalfd(-1, &g_it, SFD_CLOEXEC | SFD_NONBLOCK);
  REQUIRE(g_signal_fd >= 0);
  struct pollfd file = {g_signal_fd, POLLIN, 0};
  for (int i = 0; i < 3; ++i) {
    printf("poll %d\n", poll(&file, 1, 5000));
    ReadSignalFd();
    ReadSignalFd();
    Ask(kKill);
  }
  printf("pending %d\n", Pending());
  WaitInfo(0);
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
  Kill();
  Show("unblocked");
}

static void SignalFdEpoll(void) {
  Mask(SIG_BLOCK);
  StartThread();
  g_signal_fd = signalfd(-1, &g_it, SFD_CLOEXEC | SFD_NONBLOCK);
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, g_signal_fd, &event) == 0);
  for (int i = 0; i < 5; ++i) {
    Begin(kKill);
    printf("epoll_wait %d\n", epoll_wait(epoll, &event, 1, 5000));
    WaitDone();
    ReadSignalFd();
    ReadSignalFd();
  }
}

static void Ignored(void) {
  SetHandler(0);
  StartThread();
  Mask(SIG_BLOCK);
  Ask(kBlock);
  Kill();
  pthread_kill(g_thread, g_signal);
  Ask(kShowPending);
  signal(g_signal, SIG_IGN);  // what is pending goes
  printf("pending %d\n", Pending());
  Ask(kShowPending);
  SetHandler(0);
  Ask(kUnblock);
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
  Mask(SIG_BLOCK);
  Ask(kBlock);
  signal(g_signal, SIG_IGN);
  Kill();  // ignored but blocked: kept, for the action may change
  printf("pending %d\n", Pending());
  SetHandler(0);
  Mask(SIG_UNBLOCK);
  printf("%d\n", (int)g_count);
}

// A sleeping thread that blocks or ignores it is not interrupted.
static void NotInterrupted(void) {
  SetHandler(0);
  Mask(SIG_BLOCK);
  StartThread();
  BeginAsleep(kSleep, SYS_clock_nanosleep);
  pthread_kill(g_thread, g_signal);
  WaitDone();
  Ask(kUnblock);
  Show("unblocked");
  signal(g_signal, SIG_IGN);
  BeginAsleep(kSleep, SYS_clock_nanosleep);
  pthread_kill(g_thread, g_signal);
  WaitDone();
  struct timespec nap = {0, 200000000};
  SetHandler(0);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = g_signal};
  timer_t timer;
  struct itimerspec once = {{0, 0}, {0, 50000000}};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
  printf("nanosleep %d\n", nanosleep(&nap, NULL));  // main blocks it, the thread takes it
  Show("timer");
}

static const struct Case kCases[] = {
    {"kill_thread_wants", KillThreadWants},
    {"kill_main_wants", KillMainWants},
    {"timer_thread_wants", TimerThreadWants},
    {"unblocked_past_libc", UnblockedPastLibc},
    {"wait_before", WaitBefore},
    {"wait_after", WaitAfter},
    {"unblock_after", UnblockAfter},
    {"begin_after", BeginAfter},
    {"thread_directed", ThreadDirected},
    {"temporary_masks", TemporaryMasks},
    {"suspend_race", SuspendRace},
    {"wait_race", WaitRace},
    {"signalfd", SignalFd},
    {"signalfd_epoll", SignalFdEpoll},
    {"ignored", Ignored},
    {"not_interrupted", NotInterrupted},
};

int main(int argc, char** argv) { return RunCase(kCases, sizeof kCases / sizeof kCases[0], argc, argv); }
