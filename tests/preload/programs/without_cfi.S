// Hand-written code without a word of unwind information.

        .text
        .globl  spin_without_cfi
        .type   spin_without_cfi, @function
// void spin_without_cfi(long count): leaf, no frame, and rbp used as a counter.
spin_without_cfi:
        pushq   %rbp
        movq    %rdi, %rbp
1:      decq    %rbp
        jnz     1b
        popq    %rbp
        ret
        .size   spin_without_cfi, .-spin_without_cfi

        .globl  framed_without_cfi
        .type   framed_without_cfi, @function
// void framed_without_cfi(long count): keeps a frame pointer, which is all that a walk can go by.
framed_without_cfi:
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $32, %rsp
1:      decq    %rdi
        jnz     1b
        leave
        ret
        .size   framed_without_cfi, .-framed_without_cfi

        .globl  add_without_cfi
        .type   add_without_cfi, @function
// void add_without_cfi(long count): as GMP's functions: saves registers, takes room, and rbp is a number.
add_without_cfi:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        subq    $200, %rsp
        movq    $20, %rbp
        movq    %rdi, %r12
1:      addq    %rbp, %rbx
        decq    %r12
        jnz     1b
        addq    $200, %rsp
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   add_without_cfi, .-add_without_cfi

        .globl  call_without_cfi
        .type   call_without_cfi, @function
// void call_without_cfi(void (*f)(long), long argument): a frame without information in the middle of a stack.
call_without_cfi:
        pushq   %rbx
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        popq    %rbx
        ret
        .size   call_without_cfi, .-call_without_cfi

        .globl  goroutine_without_cfi
        .type   goroutine_without_cfi, @function
// void goroutine_without_cfi(long count): as Go starts a goroutine. Its first function returns to where nobody called it from.
goroutine_without_cfi:
        pushq   %rbx
        pushq   %rbp
        movq    %rsp, %rbx
        leaq    1+goroutine_end(%rip), %rax
        pushq   %rax
        xorl    %ebp, %ebp
        jmp     goroutine_first
        .size   goroutine_without_cfi, .-goroutine_without_cfi

        .type   goroutine_first, @function
goroutine_first:
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $32, %rsp
1:      decq    %rdi
        jnz     1b
        leave
        ret
        .size   goroutine_first, .-goroutine_first

        .type   goroutine_end, @function
goroutine_end:
        nop
        call    goroutine_leave
        nop
        .size   goroutine_end, .-goroutine_end

        .type   goroutine_leave, @function
goroutine_leave:
        movq    %rbx, %rsp
        popq    %rbp
        popq    %rbx
        ret
        .size   goroutine_leave, .-goroutine_leave

        .globl  pointer_without_cfi
        .type   pointer_without_cfi, @function
// void pointer_without_cfi(long count, long leaf): as compiled code with frame pointers. The second function calls the third by a pointer,
// so that no call says that it went to it, and has the return address of a call long over in its frame. With `leaf` the third has none.
pointer_without_cfi:
        pushq   %rbp
        movq    %rsp, %rbp
        call    pointer_second
        leave
        ret
        .size   pointer_without_cfi, .-pointer_without_cfi

        .type   pointer_second, @function
pointer_second:
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $32, %rsp
        leaq    pointer_over(%rip), %rax
        movq    %rax, 8(%rsp)
        leaq    pointer_third(%rip), %rax
        leaq    pointer_leaf(%rip), %rdx
        testq   %rsi, %rsi
        cmovneq %rdx, %rax
        call    *%rax
        leave
        ret
        .size   pointer_second, .-pointer_second

        .type   pointer_third, @function
pointer_third:
        pushq   %rbp
        movq    %rsp, %rbp
        subq    $32, %rsp
        leaq    pointer_over(%rip), %rax
        movq    %rax, 8(%rsp)
1:      decq    %rdi
        jnz     1b
        leave
        ret
        .size   pointer_third, .-pointer_third

        .type   pointer_leaf, @function
pointer_leaf:
        movl    $1, %eax
1:      subq    %rax, %rdi
        jnz     1b
        ret
        .size   pointer_leaf, .-pointer_leaf

        .type   pointer_never, @function
pointer_never:
        pushq   %rbp
        movq    %rsp, %rbp
        call    pointer_second
pointer_over:
        leave
        ret
        .size   pointer_never, .-pointer_never

        .globl  switch_stacks
        .type   switch_stacks, @function
// void switch_stacks(void (*f)(long), long argument, char* below): as Go calls C. A goroutine on a stack at lower addresses calls f on the
// thread's, by code that leaves rbp alone.
switch_stacks:
        pushq   %rbx
        pushq   %rbp
        movq    %rsp, %rbx
        movq    %rdx, %rsp
        leaq    1+goroutine_end(%rip), %rax
        pushq   %rax
        xorl    %ebp, %ebp
        jmp     switch_first
        .size   switch_stacks, .-switch_stacks

        .type   switch_first, @function
switch_first:
        pushq   %rbp
        movq    %rsp, %rbp
        call    switch_second
        leave
        ret
        .size   switch_first, .-switch_first

        .type   switch_second, @function
switch_second:
        pushq   %rbp
        movq    %rsp, %rbp
        call    switch_to_thread
        leave
        ret
        .size   switch_second, .-switch_second

        .type   switch_to_thread, @function
switch_to_thread:
        movq    %rsp, %rax
        leaq    -64(%rbx), %rsp
        andq    $-16, %rsp
        movq    %rax, 8(%rsp)
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        movq    8(%rsp), %rsp
        ret
        .size   switch_to_thread, .-switch_to_thread

        .globl  spin_with_registers
        .type   spin_with_registers, @function
// void spin_with_registers(long count, long rsp, long rbp): loops with the stack and frame pointer replaced. A signal
// needs an alternate stack here. The old stack pointer waits in xmm0.
spin_with_registers:
        pushq   %rbp
        movq    %rsp, %xmm0
        movq    %rdx, %rbp
        movq    %rsi, %rsp
1:      decq    %rdi
        jnz     1b
        movq    %xmm0, %rsp
        popq    %rbp
        ret
        .size   spin_with_registers, .-spin_with_registers

        .section .note.GNU-stack,"",@progbits
