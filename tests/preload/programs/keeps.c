// Holds memory and a lock, both as its functions' names say, then comes to the end that its argument names.
#include <sys/resource.h>

#include "tests/preload/programs/program.h"

#define FRAME WHOLE_FUNCTION

static void* volatile g_keep;  // what the compiler cannot see through

FRAME void kept_memory(void) {  // 1,000,000 bytes
  for (int i = 0; i < 100; ++i) g_keep = malloc(10000);
}
FRAME void memory_of_the_peak(void) {  // 2,000,000 bytes
  void* blocks[50];
  for (int i = 0; i < 50; ++i) g_keep = blocks[i] = malloc(40000);
  for (int i = 0; i < 50; ++i) free(blocks[i]);
}

FRAME void kept_block(void) { g_keep = malloc(700); }

static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;

FRAME void waits_for_the_lock(void) {
  pthread_mutex_lock(&g_mutex);
  pthread_mutex_unlock(&g_mutex);
}
static void* Waiter(void* unused) {
  waits_for_the_lock();
  return NULL;
}
FRAME void lets_others_wait(void) {  // for 50 ms
  pthread_mutex_lock(&g_mutex);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, Waiter, NULL) == 0);
  usleep(50000);
  pthread_mutex_unlock(&g_mutex);
  REQUIRE(pthread_join(thread, NULL) == 0);
}

// Until there is no more, or the kernel ends it.
FRAME void eats_memory(void) {
  for (;;) {
    char* block = malloc(1 << 20);
    if (block == NULL) return;
    memset(block, 1, 1 << 20);
    g_keep = block;
  }
}

int main(int argc, char** argv) {
  REQUIRE(argc == 2);
  const char* how = argv[1];
  if (Is(how, "children")) {  // of which each keeps one block
    for (int i = 0; i < 100; ++i) {
      pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        kept_block();
        return 7;
      }
      ExpectExit(child, 7);
    }
    return 7;
  }
  kept_memory();
  if (Is(how, "less")) return 7;
  memory_of_the_peak();
  lets_others_wait();
  if (Is(how, "return")) return 7;
  if (Is(how, "kill")) raise(SIGKILL);
  if (Is(how, "becomes_less")) execl("/proc/self/exe", argv[0], "less", NULL);
  if (Is(how, "address_space")) {
    struct rlimit limit = {UINT64_C(1) << 30, UINT64_C(1) << 30};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    eats_memory();
    abort();
  }
  if (Is(how, "eat")) eats_memory();
  if (Is(how, "wait")) {
    Say("ready\n");
    for (;;) pause();
  }
  return 97;
}
