// A C program that uses a C++ library, so libgcc_s is a dependency of a dependency: what a preloaded unwinder takes over.
#include "tests/preload/programs/program.h"

int throw_and_catch(int depth, long millis);

static void* InThread(void* unused) {
  REQUIRE(throw_and_catch(20, 400) > 0);
  return NULL;
}

int main(int argc, char** argv) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, InThread, NULL) == 0);
  int caught = throw_and_catch(20, 400);
  pthread_join(thread, NULL);
  REQUIRE(caught > 0);
  return 0;
}
