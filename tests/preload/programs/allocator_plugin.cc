// A library that asks for memory in every way (allocator_family.cc).
#include "tests/preload/programs/allocator_ways.h"

namespace {

// From before anybody could lead a call elsewhere. (For each library that is loaded, its own copy.)
void* g_from_constructor;
__attribute__((constructor)) void AskInConstructor() { g_from_constructor = malloc(100); }

}  // namespace

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
  free(g_from_constructor);
  g_from_constructor = malloc(100);
  asm volatile("");
}
