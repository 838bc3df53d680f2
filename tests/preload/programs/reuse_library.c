// Built twice with another name each time: two libraries of exactly the same layout, so that the second lands at the
// address that the first gave back, with its function at the same offset.
#include "tests/support/burn.h"

WORK(REUSE_INNER)

void (*at_close)(void);
__attribute__((destructor)) static void Close(void) {
  if (at_close != 0) at_close();
}

void REUSE_NAME(long millis);
void REUSE_NAME(long millis) {
  REUSE_INNER(millis);
  __asm__ volatile("");
}
