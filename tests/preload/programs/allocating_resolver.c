// Asks for memory before the beginning: an IFUNC resolver runs while the loader is still at work. (jemalloc, mimalloc and the
// address sanitizer do not survive this.)
#include <stdlib.h>
#include <string.h>

#include "tests/preload/programs/program.h"

static char* g_early;

static int TheNumber(void) { return 7; }
__attribute__((used)) static int (*ResolveNumber(void))(void) {
  g_early = malloc(50);
  strcpy(g_early, "early");
  free(realloc(malloc(10), 100));
  return TheNumber;
}
int Number(void) __attribute__((ifunc("ResolveNumber")));

int main(void) {
  g_early = realloc(g_early, 1000);
  Say(g_early);
  free(g_early);
  return Number();
}
