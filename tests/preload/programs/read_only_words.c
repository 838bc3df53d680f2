// A library with addresses of functions where it cannot be written once it is loaded: in what it shares with its code (DT_TEXTREL), and
// in slots that the loader makes read-only.
#include <stdlib.h>

asm(R"(
  .pushsection .rodata
  .balign 8
  .quad free
  .popsection
)");

__attribute__((visibility("default"))) void FreeByReadOnlySlot(void* block) { free(block); }
