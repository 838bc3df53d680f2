// A lock checker that is preloaded: it must see each mutex being taken that it sees being given back, and each wait.
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static atomic_long held, taken, waits;

__attribute__((destructor)) static void Tell(void) {
  fprintf(stderr, "%s, %ld held, %ld waits\n", atomic_load(&taken) > 0 ? "locks" : "no lock",
          atomic_load(&held), atomic_load(&waits));
}

static int Taken(int error) {
  if (error != 0) return error;
  atomic_fetch_add(&held, 1);
  atomic_fetch_add(&taken, 1);
  return 0;
}

#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

int pthread_mutex_lock(pthread_mutex_t* mutex) { return Taken(NEXT(pthread_mutex_lock)(mutex)); }
#ifndef WITHOUT_TRYLOCK
int pthread_mutex_trylock(pthread_mutex_t* mutex) { return Taken(NEXT(pthread_mutex_trylock)(mutex)); }
#endif
int pthread_mutex_timedlock(pthread_mutex_t* mutex, const struct timespec* deadline) {
  return Taken(NEXT(pthread_mutex_timedlock)(mutex, deadline));
}
int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const struct timespec* deadline) {
  return Taken(NEXT(pthread_mutex_clocklock)(mutex, clock, deadline));
}
int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  int error = NEXT(pthread_mutex_unlock)(mutex);
  if (error == 0) atomic_fetch_sub(&held, 1);
  return error;
}
// Like libraries of this kind, without a version: for programs that name today's, and for those that name none.
int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const struct timespec* deadline) {
  atomic_fetch_add(&waits, 1);
  return NEXT(pthread_cond_timedwait)(condition, mutex, deadline);
}
