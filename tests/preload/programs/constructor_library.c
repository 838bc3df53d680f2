// Its constructor works while dlopen holds the loader's lock, and crashes there when the environment says so.
#include "tests/preload/programs/program.h"

WORK(constructor_work)

static __thread char g_storage[1400]
    __attribute__((tls_model("initial-exec")));  // most of what dlopen can still give

__attribute__((constructor)) static void Start(void) {
  g_storage[0] = 1;
  constructor_work(200);
  if (getenv("CRASH_IN_CONSTRUCTOR") != NULL) abort();
}
