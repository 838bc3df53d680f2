// A program that was linked before glibc 2.3.2: its condition variables are a pointer that libc fills at the first use.
#include "tests/preload/programs/program.h"

#define OLD(name) __asm__(".symver " #name ", " #name "@GLIBC_2.2.5")
OLD(pthread_cond_init);
OLD(pthread_cond_wait);
OLD(pthread_cond_timedwait);
OLD(pthread_cond_signal);
OLD(pthread_cond_broadcast);

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

int main(void) {
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
  return 0;
}
