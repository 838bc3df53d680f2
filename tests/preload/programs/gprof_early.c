// Built with -pg, and with a library: the program's start code is called from the library's _init, before any constructor.
#include "tests/preload/programs/program.h"

extern void library_work(long millis);

int main(void) {
  library_work(300);
  struct sigaction action;
  REQUIRE(sigaction(SIGPROF, NULL, &action) == 0);
  printf("%d %x\n", action.sa_handler != SIG_DFL, (unsigned)action.sa_flags);
  return 7;
}
