// Works at the bottom of a recursion that is `deep DEPTH` frames deep.
#include <sys/resource.h>

#include "tests/preload/programs/program.h"

WORK(deep_work)

WHOLE_FUNCTION long recurse(long depth) {
  if (depth == 0) {
    deep_work(300);
    return 1;
  }
  long below = recurse(depth - 1);
  __asm__ volatile("" : "+r"(below));
  return below + 1;
}

static void* InThread(void* depth) {
  recurse((long)(intptr_t)depth);
  return NULL;
}

int main(int argc, char** argv) {
  long depth = atol(argv[1]);
  if (argc > 2) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 20);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, &attributes, InThread, (void*)(intptr_t)depth) == 0);
    pthread_join(thread, NULL);
    return 0;
  }
  return recurse(depth) == depth + 1 ? 0 : 98;
}
