// A preloaded library whose constructor starts a thread, perhaps before the agent has started.
#include "tests/preload/programs/program.h"

WORK(early_thread_work)

static pthread_t g_thread;

static void* Work(void* unused) {
  early_thread_work(400);
  return NULL;
}

__attribute__((constructor)) static void Start(void) {
  REQUIRE(pthread_create(&g_thread, NULL, Work, NULL) == 0);
}
__attribute__((destructor)) static void Wait(void) { pthread_join(g_thread, NULL); }
