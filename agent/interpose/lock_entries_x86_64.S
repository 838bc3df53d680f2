/* What the program calls: one jump through a table each, so that a profile that is not taken costs that jump and nothing else.

   Context: `hook`, `bootstrap`. A target is, one after the other: Resolve (a constructor of another library may call before
            ours has run), libc's function, and, while a profile is taken, the instrumented function. lock_hooks.cc writes them.
   Resolve: looks up all functions at once, keeps every register that can hold an argument, and jumps to where the target points
            then. */
#include "agent/interpose/lock_entries.h"

/* `symbol` is the function's name in here, `target` the word that it jumps through. profagent_entry_##target is
   the same function, by a name that nobody else can define. */
#define ENTRY(symbol, target)                     \
  .pushsection .data.rel.local, "aw", @progbits;  \
  .balign 8;                                      \
  .globl profagent_target_##target;               \
  .hidden profagent_target_##target;              \
  .type profagent_target_##target, @object;       \
  profagent_target_##target:                      \
  .quad profagent_resolve_##target;               \
  .size profagent_target_##target, 8;             \
  .popsection;                                    \
  .balign 16;                                     \
  .globl symbol;                                  \
  .type symbol, @function;                        \
  .globl profagent_entry_##target;                \
  .hidden profagent_entry_##target;               \
  symbol:                                         \
  profagent_entry_##target:                       \
  .cfi_startproc;                                 \
  jmp *profagent_target_##target(%rip);           \
  .cfi_endproc;                                   \
  .size symbol, . - symbol;                       \
  profagent_resolve_##target:                     \
  leaq profagent_target_##target(%rip), %r11;     \
  jmp profagent_resolve;

#define PROF_LOCK_ENTRY(name, wanted_by) ENTRY(name, name)
#define PROF_SYSCALL_ENTRY(name, wanted_by) ENTRY(name, name)
#define PROF_LOCK_ALIAS(alias, name) \
  .globl alias;                      \
  .set alias, name;

/* Both versions by their full names: without them an old program's call would reach the new function, which crashes on the
   old structure; under any other version, none would reach us at all. */
#define PROF_COND_ENTRY(name, wanted_by)                        \
  ENTRY(profagent_new_##name, new_##name)                       \
  .symver profagent_new_##name, name##@@GLIBC_2.3.2;            \
  ENTRY(profagent_old_##name, old_##name)                       \
  .symver profagent_old_##name, name##@GLIBC_2.2.5;

  .text
PROF_LOCK_ENTRIES
PROF_SYSCALL_ENTRIES
PROF_LOCK_ALIASES
PROF_COND_ENTRIES

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
