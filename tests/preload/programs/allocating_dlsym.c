// A preloaded library whose dlsym asks for memory before it does its work, as libc's did before 2.34.
#include <dlfcn.h>
#include <stdlib.h>

__attribute__((visibility("hidden"))) void* g_real_dlsym;

__attribute__((visibility("hidden"), used)) void BeforeDlsym(void) {
  free(realloc(calloc(1, 100), 200));
  if (g_real_dlsym == NULL) g_real_dlsym = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
}

// A jump, not a call: dlsym goes by its caller.
__asm__(
    ".globl dlsym\n"
    ".type dlsym, @function\n"
    "dlsym:\n"
    "  push %rdi\n"
    "  push %rsi\n"
    "  sub $8, %rsp\n"
    "  call BeforeDlsym\n"
    "  add $8, %rsp\n"
    "  pop %rsi\n"
    "  pop %rdi\n"
    "  jmp *g_real_dlsym(%rip)\n"
    ".size dlsym, . - dlsym\n");
