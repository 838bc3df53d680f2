/* What the program calls: one jump through a table each, so that a profile that is not taken costs that jump and nothing else.

   Context: `hook`, `bootstrap`. A target is, one after the other: Resolve (a constructor of another library may call before
            ours has run), libc's function, and, while a profile is taken, the instrumented function. lock_hooks.cc writes them.
   Resolve: looks up all functions at once, keeps every register that can hold an argument, and jumps to where the target points
            then. */
#include "agent/interpose/lock_entries.h"

#define PROF_LOCK_ENTRY(name, wanted_by)          \
  .pushsection .data.rel.local, "aw", @progbits;  \
  .balign 8;                                      \
  .globl profagent_target_##name;                 \
  .hidden profagent_target_##name;                \
  .type profagent_target_##name, @object;         \
  profagent_target_##name:                        \
  .quad profagent_resolve_##name;                 \
  .size profagent_target_##name, 8;               \
  .popsection;                                    \
  .balign 16;                                     \
  .globl name;                                    \
  .type name, @function;                          \
  name:                                           \
  .cfi_startproc;                                 \
  jmp *profagent_target_##name(%rip);             \
  .cfi_endproc;                                   \
  .size name, . - name;                           \
  profagent_resolve_##name:                       \
  leaq profagent_target_##name(%rip), %r11;       \
  jmp profagent_resolve;

  .text
PROF_LOCK_ENTRIES

  .balign 16
  .type profagent_resolve, @function
profagent_resolve:
  .cfi_startproc
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  pushq %rdx
  .cfi_adjust_cfa_offset 8
  pushq %rcx
  .cfi_adjust_cfa_offset 8
  pushq %r8
  .cfi_adjust_cfa_offset 8
  pushq %r9
  .cfi_adjust_cfa_offset 8
  pushq %rax /* how many vector registers a variadic call uses */
  .cfi_adjust_cfa_offset 8
  pushq %r11
  .cfi_adjust_cfa_offset 8
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  call profagent_resolve_lock_functions
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %r11
  .cfi_adjust_cfa_offset -8
  popq %rax
  .cfi_adjust_cfa_offset -8
  popq %r9
  .cfi_adjust_cfa_offset -8
  popq %r8
  .cfi_adjust_cfa_offset -8
  popq %rcx
  .cfi_adjust_cfa_offset -8
  popq %rdx
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  jmp *(%r11)
  .cfi_endproc
  .size profagent_resolve, . - profagent_resolve

  .section .note.GNU-stack, "", @progbits
