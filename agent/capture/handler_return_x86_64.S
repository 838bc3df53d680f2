/* See handler_return.h. On entry the stack pointer is at the kernel's ucontext. */

/* Places in a ucontext_t, and a bit; the header checks them. */
#define CONTEXT_RAX 144
#define CONTEXT_RSP 160
#define CONTEXT_RIP 168
#define CONTEXT_FLAGS 176
#define RESUME_FLAG_BIT 16
#define EINTR 4

/* DWARF's register `number` is what stands `offset` bytes (less than 8192) above the stack pointer. */
#define DW_CFA_expression 0x10
#define DW_CFA_def_cfa_expression 0x0f
#define DW_OP_breg7 0x77
#define DW_OP_deref 0x06
#define LOW(offset) ((offset) & 0x7f) | 0x80
#define HIGH(offset) (offset) >> 7
#define SAVED(number, offset) .cfi_escape DW_CFA_expression, number, 3, DW_OP_breg7, LOW(offset), HIGH(offset)

  .section prof_sigsafe, "ax", @progbits
  .balign 16
  .cfi_startproc simple
  .cfi_signal_frame
  .cfi_escape DW_CFA_def_cfa_expression, 4, DW_OP_breg7, LOW(CONTEXT_RSP), HIGH(CONTEXT_RSP), DW_OP_deref
  SAVED(8, 40)
  SAVED(9, 48)
  SAVED(10, 56)
  SAVED(11, 64)
  SAVED(12, 72)
  SAVED(13, 80)
  SAVED(14, 88)
  SAVED(15, 96)
  SAVED(5, 104)
  SAVED(4, 112)
  SAVED(6, 120)
  SAVED(3, 128)
  SAVED(1, 136)
  SAVED(0, CONTEXT_RAX)
  SAVED(2, 152)
  SAVED(7, CONTEXT_RSP)
  SAVED(16, CONTEXT_RIP)
  nop /* who unwinds from the handler may look up the byte before its return address */
  .globl profagent_handler_return
  .hidden profagent_handler_return
  .type profagent_handler_return, @function
profagent_handler_return:
  cmpq $-EINTR, CONTEXT_RAX(%rsp)
  jne profagent_unmarked_return
  btsl $RESUME_FLAG_BIT, CONTEXT_FLAGS(%rsp)
  .globl profagent_unmarked_return
  .hidden profagent_unmarked_return
profagent_unmarked_return:
  movl $15, %eax /* rt_sigreturn */
  syscall
  .size profagent_handler_return, . - profagent_handler_return
  .globl profagent_abort_handler_return
  .hidden profagent_abort_handler_return
  .type profagent_abort_handler_return, @function
profagent_abort_handler_return:
  movq %rsp, %rdi
  call profagent_after_abort_handler
  jmp profagent_handler_return
  .cfi_endproc
  .size profagent_abort_handler_return, . - profagent_abort_handler_return
  .section .note.GNU-stack, "", @progbits
