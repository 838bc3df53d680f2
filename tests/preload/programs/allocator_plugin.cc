// A library that asks for memory in every way (allocator_family.cc).
#include "tests/preload/programs/allocator_ways.h"

extern "C" __attribute__((visibility("default"))) void UseEverythingInPlugin() {
  UseEverything();
  asm volatile("");
}
