// The least that a profiler on CPU timers can do: the timer of the agent (100 Hz, on the first thread's CPU time, CLOCK_THREAD_CPUTIME_ID)
// and a handler that does nothing. What cpu_cost.py shows beside it, in the same run, is what the agent adds to that.
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void do_nothing(int signo, siginfo_t* info, void* context) {
  (void)signo;
  (void)info;
  (void)context;
}

__attribute__((constructor)) static void start(void) {
  struct sigaction action = {.sa_sigaction = do_nothing, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  const struct timespec period = {.tv_nsec = 10 * 1000 * 1000};
  const struct itimerspec times = {.it_interval = period, .it_value = period};
  timer_t timer;
  if (sigaction(SIGPROF, &action, NULL) == 0 && timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0 &&
      timer_settime(timer, 0, &times, NULL) == 0) {
    return;
  }
  perror("bare_timer_preload");
  abort();
}
