// Work on stacks that the program made itself: makecontext coroutines, with unreadable pages around each stack.
#include <ucontext.h>

#include "tests/preload/programs/program.h"

WORK(coroutine_work)
WORK(main_work)

enum { kCoroutines = 8, kStack = 32 << 10 };
static ucontext_t g_main, g_coroutine[kCoroutines];

WHOLE_FUNCTION static int Body(int depth) {
  volatile int here = depth;
  if (depth == 0) {
    coroutine_work(5);
    return here;
  }
  return Body(depth - 1) + here;
}

static void Run(int self) {
  for (;;) {
    Body(10);
    swapcontext(&g_coroutine[self], &g_main);
  }
}

static void* Main(void* unused) {
  for (int i = 0; i < kCoroutines; ++i) {
    char* stack = mmap(NULL, kStack + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mprotect(stack + 4096, kStack, PROT_READ | PROT_WRITE) == 0);
    getcontext(&g_coroutine[i]);
    g_coroutine[i].uc_stack.ss_sp = stack + 4096;
    g_coroutine[i].uc_stack.ss_size = kStack;
    makecontext(&g_coroutine[i], (void (*)(void))Run, 1, i);
  }
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < kCoroutines; ++i) swapcontext(&g_main, &g_coroutine[i]);
    main_work(10);
  }
  return NULL;
}

int main(int argc, char** argv) {
  Main(NULL);
  if (argc > 1 && Is(argv[1], "threads")) {
    pthread_t thread;
    pthread_create(&thread, NULL, Main, NULL);
    pthread_join(thread, NULL);
  }
  return 0;
}
