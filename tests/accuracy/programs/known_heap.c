// Allocates known amounts in known functions, and prints NAME OBJECTS BYTES for each: Go's test/heapsampling.go.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/burn.h"

static void* volatile g_keep;

#define ALLOCATES(name, size)             \
  static WHOLE_FUNCTION void name(void) { \
    g_keep = malloc(size);                \
    __asm__ volatile("");                 \
  }
ALLOCATES(alloc_17k, 17 * 1024)
ALLOCATES(alloc_1k, 1024)
ALLOCATES(alloc_18k, 18 * 1024)
ALLOCATES(alloc_512, 512)
ALLOCATES(alloc_16k, 16 * 1024)
ALLOCATES(alloc_256, 256)

// The same size from the same place on the stack: only the return address tells them apart.
ALLOCATES(like_one, 1000)
ALLOCATES(like_two, 1000)

#define REALLOCATES(name, size)                   \
  static WHOLE_FUNCTION void* name(void* block) { \
    block = realloc(block, size);                 \
    __asm__ volatile("" : "+r"(block));           \
    return block;                                 \
  }
REALLOCATES(grow_200, 200)
REALLOCATES(grow_800, 800)
REALLOCATES(grow_3200, 3200)
REALLOCATES(shrink_3000, 3000)

// Every block is asked for five times, and all are live at the same time. The last time it stays where it is.
static void Grow(long count) {
  void** blocks = malloc((size_t)count * sizeof *blocks);
  for (long i = 0; i < count; ++i) {
    alloc_256();
    blocks[i] = g_keep;
  }
  for (long i = 0; i < count; ++i) blocks[i] = grow_200(blocks[i]);
  for (long i = 0; i < count; ++i) blocks[i] = grow_800(blocks[i]);
  for (long i = 0; i < count; ++i) blocks[i] = grow_3200(blocks[i]);
  for (long i = 0; i < count; ++i) blocks[i] = shrink_3000(blocks[i]);
  g_keep = blocks;
}

static void Print(const char* name, long count, long size) {
  printf("%s %ld %ld\n", name, count, count * size);
}

int main(int argc, char** argv) {
  long count = atol(argv[2]);
  if (strcmp(argv[1], "wide") == 0) {
    for (long i = 0; i < count; ++i) {
      alloc_17k();
      alloc_1k();
      alloc_18k();
      alloc_512();
      alloc_16k();
      alloc_256();
      // What is kept of so much would not fit: the profile of allocations is what is looked at.
      if (i % 64 != 0) free(g_keep);
    }
    Print("alloc_17k", count, 17 * 1024);
    Print("alloc_18k", count, 18 * 1024);
    Print("alloc_16k", count, 16 * 1024);
  } else if (strcmp(argv[1], "grow") == 0) {
    Grow(count);
    Print("alloc_256", count, 256);
    Print("grow_200", count, 200);
    Print("grow_800", count, 800);
    Print("grow_3200", count, 3200);
    Print("shrink_3000", count, 3000);
    return 0;
  } else if (strcmp(argv[1], "alike") == 0) {
    for (long i = 0; i < count; ++i) (i % 4 == 0 ? like_one : like_two)();
    Print("like_one", count / 4, 1000);
    Print("like_two", count / 4 * 3, 1000);
    return 0;
  } else {
    for (long i = 0; i < count; ++i) {
      alloc_1k();
      alloc_512();
      alloc_256();
    }
  }
  Print("alloc_1k", count, 1024);
  Print("alloc_512", count, 512);
  Print("alloc_256", count, 256);
  return 0;
}
