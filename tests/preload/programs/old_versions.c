// A program that was linked before glibc 2.3.2: its condition variables are a pointer that libc fills at the first use, its timers
// are small numbers. The same without versions: a library that was linked without libc, which gets the first one of each function.
#include <semaphore.h>

#include "tests/preload/programs/program.h"

#ifndef MAIN
#define MAIN main
#endif
#define OLD(name) __asm__(".symver " #name ", " #name "@GLIBC_2.2.5")
#ifndef WITHOUT_VERSIONS
OLD(pthread_cond_init);
OLD(pthread_cond_wait);
OLD(pthread_cond_timedwait);
OLD(pthread_cond_signal);
OLD(pthread_cond_broadcast);
OLD(timer_create);
OLD(timer_settime);
OLD(timer_delete);
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
// As that program's header declared it; what stands behind it must stay.
static union {
  pthread_cond_t as_today;
  struct {
    void* condition;
    char behind[40];
  } as_then;
} old;
static int turn;

static void Check(void) {
  for (size_t i = 0; i < sizeof old.as_then.behind; ++i) REQUIRE(old.as_then.behind[i] == 'x');
}

WHOLE_FUNCTION void WaitForTurn(int wanted) {
  while (turn != wanted) REQUIRE(pthread_cond_wait(&old.as_today, &mutex) == 0);
}

static void* Player(void* number) {
  for (int i = 0; i < 100; ++i) {
    pthread_mutex_lock(&mutex);
    WaitForTurn((int)(intptr_t)number);
    turn = 1 - turn;
    if (i % 2 == 0) {
      pthread_cond_signal(&old.as_today);
    } else {
      pthread_cond_broadcast(&old.as_today);
    }
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static sem_t expired;
static void OnTimer(union sigval value) {
  (void)value;
  sem_post(&expired);
}

// A thread of libc's that calls a function, which a hook must pass on to the timers of the same version.
static void Timer(void) {
  union {
    timer_t as_today;
    int as_then[2];
  } timer = {.as_then = {-1, -1}};
  struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = OnTimer};
  REQUIRE(sem_init(&expired, 0, 0) == 0);
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer.as_today) == 0);
  REQUIRE(timer.as_then[0] >= 0 && timer.as_then[1] == -1);
  struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
  REQUIRE(timer_settime(timer.as_today, 0, &soon, NULL) == 0);
  while (sem_wait(&expired) != 0) REQUIRE(errno == EINTR);
  REQUIRE(timer_delete(timer.as_today) == 0);
}

int MAIN(void) {
  memset(&old, 'x', sizeof old);
  REQUIRE(pthread_cond_init(&old.as_today, NULL) == 0);
  Check();
  pthread_t threads[2];
  for (intptr_t i = 0; i < 2; ++i) REQUIRE(pthread_create(&threads[i], NULL, Player, (void*)i) == 0);
  for (int i = 0; i < 2; ++i) REQUIRE(pthread_join(threads[i], NULL) == 0);
  pthread_mutex_lock(&mutex);
  struct timespec past = {1, 0};
  REQUIRE(pthread_cond_timedwait(&old.as_today, &mutex, &past) == ETIMEDOUT);
  Check();
  Timer();
  return 0;
}
