// A preloaded library that asks for memory when its constructor runs, which may be before the agent's, and gives it back and
// asks for more when everybody else is done.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char* g_kept[4];

static void Check(int index, const char* text) {
  if (strcmp(g_kept[index], text) != 0) abort();
}

__attribute__((constructor)) static void Start(void) {
  g_kept[0] = strdup("from the constructor");
  g_kept[1] = realloc(realloc(NULL, 10), 100000);
  strcpy(g_kept[1], "moved");
  g_kept[2] = calloc(1, 1000);
  if (posix_memalign((void**)&g_kept[3], 64, 100) != 0) abort();
  strcpy(g_kept[3], "aligned");
  free(memalign(64, 100));
}

__attribute__((destructor)) static void Stop(void) {
  Check(0, "from the constructor");
  Check(1, "moved");
  Check(2, "");
  Check(3, "aligned");
  for (int i = 0; i < 4; ++i) free(realloc(g_kept[i], 300));
  puts("the library is done");
}
