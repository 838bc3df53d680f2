// A library with addresses of functions where it cannot be written once it is loaded: in what it shares with its code (DT_TEXTREL), and
// in slots that the loader makes read-only.
#include <stdlib.h>

asm(".pushsection .rodata\n\t"
    ".balign 8\n\t"
    ".quad free\n\t"
    ".popsection");

__attribute__((visibility("default"))) void FreeByReadOnlySlot(void* block) { free(block); }
