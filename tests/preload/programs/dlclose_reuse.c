// Loads, uses and closes two libraries in turn at the same address.
#include <dlfcn.h>

#include "tests/preload/programs/program.h"

static uintptr_t Use(const char* library, const char* function, long millis) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(handle != NULL);
  void (*work)(long) = (void (*)(long))dlsym(handle, function);
  REQUIRE(work != NULL);
  work(millis);
  REQUIRE(dlclose(handle) == 0);
  return (uintptr_t)work;
}

static void* g_stop;
static void* Churn(void* library) {  // another thread that is being sampled while libraries come and go
  while (__atomic_load_n(&g_stop, __ATOMIC_RELAXED) == NULL) {
    for (int i = 0; i < 50; ++i) SPIN();
  }
  return NULL;
}

int main(int argc, char** argv) {
  int rounds = atoi(argv[3]), reused = 0;
  uintptr_t last = 0;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, Churn, NULL) == 0);
  unsigned seed = 1;
  for (int i = 0; i < rounds; ++i) {
    // 1:9 in pieces of irregular length: on a busy machine ticks keep step with the CPU clock of a thread.
    seed = seed * 1103515245 + 12345;
    long millis = 1 + (long)((seed >> 16) % 5);
    uintptr_t a = Use(argv[1], "first_library", millis);
    reused += a == last;
    uintptr_t b = Use(argv[2], "second_library", 9 * millis);
    reused += a == b;
    last = b;
  }
  __atomic_store_n(&g_stop, &g_stop, __ATOMIC_RELAXED);
  pthread_join(thread, NULL);
  printf("%d of %d addresses reused\n", reused, 2 * rounds - 1);
  return 0;
}
