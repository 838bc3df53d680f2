// A library that asks for memory in every way (allocator_family.cc).
#include "tests/preload/programs/allocator_ways.h"

extern "C" __attribute__((visibility("default"))) void UseEverythingInPlugin() {
  UseEverything();
  asm volatile("");
}

extern "C" __attribute__((visibility("default"))) void UseOwnBlocksInPlugin() {
  use_malloc();
  use_calloc();
  use_realloc();
  use_memalign();
  use_posix_memalign();
  use_new();
  use_new_array_aligned();
  asm volatile("");
}
