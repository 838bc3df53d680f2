// The least that a library which stands between a program and its malloc can do: one jump to libc's function a call. What heap_cost.py
// shows beside it, in the same run, is what the agent adds to that.
#include <stddef.h>

extern void* __libc_malloc(size_t);
extern void __libc_free(void*);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);

// Pointers that the loader fills in: a direct jump would go through a stub, and be two.
__attribute__((visibility("hidden"))) void* (*volatile bare_malloc)(size_t) = __libc_malloc;
__attribute__((visibility("hidden"))) void (*volatile bare_free)(void*) = __libc_free;
__attribute__((visibility("hidden"))) void* (*volatile bare_calloc)(size_t, size_t) = __libc_calloc;
__attribute__((visibility("hidden"))) void* (*volatile bare_realloc)(void*, size_t) = __libc_realloc;

#define JUMP(name)                                                                               \
  __asm__(".globl " #name "\n.type " #name ",@function\n.p2align 5\n" #name ": jmp *bare_" #name \
          "(%rip)\n.size " #name ", .-" #name "\n")
JUMP(malloc);
JUMP(free);
JUMP(calloc);
JUMP(realloc);
