// Its unwind tables are what tests break: in memory while it runs, or in the file before it is loaded.
#include "tests/support/burn.h"

WORK(victim_work_inner)

WHOLE_FUNCTION static int Recurse(int depth, long millis) {
  volatile char space[48 + 16 * 8];
  space[0] = (char)depth;
  if (depth == 0) {
    victim_work_inner(millis);
  } else {
    Recurse(depth - 1, millis);
  }
  return space[0];
}

// A frame whose CFA is in another register than rsp: alloca.
WHOLE_FUNCTION static int WithAlloca(int size, long millis) {
  volatile char* space = __builtin_alloca((unsigned)size);
  space[0] = 1;
  Recurse(6, millis);
  return space[0];
}

void victim_work(long millis);
void victim_work(long millis) {
  WithAlloca(100, millis);
  __asm__ volatile("");
}
