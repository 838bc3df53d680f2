// A library that is opened, allocates, and is closed again while its blocks live on.
#include <stdlib.h>

static void* volatile g_block;

__attribute__((visibility("default"), noinline)) void library_allocates(int count) {
  for (int i = 0; i < count; ++i) g_block = malloc(40);
}
