// A preload that times every lock, as mutrace and lock statistics tools do: for scale beside the agent.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

static int (*real_lock)(pthread_mutex_t*);
static __thread uint64_t waited;

__attribute__((constructor)) static void Resolve(void) {
  real_lock = (int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_lock");
}

static uint64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  if (real_lock == NULL) Resolve();
  uint64_t before = Now();
  int error = real_lock(mutex);
  waited += Now() - before;
  return error;
}
