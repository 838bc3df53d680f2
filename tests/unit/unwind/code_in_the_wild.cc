#include "tests/unit/unwind/code_in_the_wild.h"

#include "tests/unit/unwind/unwind_fixture.h"

asm(R"(
.text
.macro RAISE_SIGUSR1 spare=ebx  # tgkill(own pid, own tid, SIGUSR1); `spare` is lost
  mov $39, %eax
  syscall
  mov %eax, %\spare
  mov $186, %eax
  syscall
  mov %\spare, %edi
  mov %eax, %esi
  mov $10, %edx
  mov $234, %eax
  syscall
.endm
.globl NoCfiFrameless, NoCfiFramed, NoCfiFirstInstruction, WithWildRegisters
.globl CallsAtItsEnd, FollowsImmediately, CfaInScratchRegister, WrongCfiAtReturn, CallsWrongCfi
.globl LandsInItsCaller, ThrowsToLandingPad, CfaInMemory, LosesR12, LoopsByFramePointer
.globl KeepsReturnAddress, BareReturns, CallsBareReturns
.globl BareLeaves, BareTakesRoom, BareCallsBare, BareAlignsStack, BareStub, BareOnEmptyStack, BarePointsAtStack
.type NoCfiFrameless, @function
NoCfiFrameless:
  mov %rbx, %r9
  RAISE_SIGUSR1
  mov %r9, %rbx
  ret
.size NoCfiFrameless, . - NoCfiFrameless
.type NoCfiFramed, @function
NoCfiFramed:
  push %rbp
  mov %rsp, %rbp
  sub $64, %rsp
  movq $0, (%rsp)
  call *%rdi
  leave
  ret
.size NoCfiFramed, . - NoCfiFramed
.type NoCfiFirstInstruction, @function
NoCfiFirstInstruction:
  ud2                  # SIGILL; the handler goes on behind it, as if here were the function's start
.globl kFirstInstruction
kFirstInstruction:
  push %rbp
  mov %rsp, %rbp
  pop %rbp
  ret
.size NoCfiFirstInstruction, . - NoCfiFirstInstruction
.type WithWildRegisters, @function
WithWildRegisters:
  push %rbp
  push %rbx
  mov %rdi, %rbp
  RAISE_SIGUSR1
  pop %rbx
  pop %rbp
  ret
.size WithWildRegisters, . - WithWildRegisters
.type CallsAtItsEnd, @function
CallsAtItsEnd:
  .cfi_startproc
  push %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbx, 0
  sub $32, %rsp
  .cfi_adjust_cfa_offset 32
  call *%rdi
  .cfi_endproc
.size CallsAtItsEnd, . - CallsAtItsEnd
.type FollowsImmediately, @function
FollowsImmediately:
  .cfi_startproc
  ret
  .cfi_endproc
.size FollowsImmediately, . - FollowsImmediately
.type CfaInScratchRegister, @function
CfaInScratchRegister:   # as libcrypto: the CFA is in a callee-saved register that is not rbp
  .cfi_startproc
  push %r12
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %r12, 0
  mov %rsp, %r12
  .cfi_def_cfa_register %r12
  sub $200, %rsp
  and $-64, %rsp
  call *%rdi
kBehindACall:
  mov %r12, %rsp
  .cfi_def_cfa_register %rsp
  pop %r12
  .cfi_adjust_cfa_offset -8
  .cfi_restore %r12
  ret
  .cfi_endproc
.size CfaInScratchRegister, . - CfaInScratchRegister
.type CfaInMemory, @function
CfaInMemory:            # as libcrypto: the old stack pointer is kept on the new stack
  .cfi_startproc
  mov %rsp, %rax
  .cfi_def_cfa_register %rax
  movq $0, -8(%rsp)     # where the return address would be if rax were the CFA
  sub $64, %rsp
  and $-64, %rsp
  mov %rax, 16(%rsp)
  .cfi_escape 0x0f, 5, 0x77, 16, 0x06, 0x23, 8   # *(rsp + 16) + 8
  call *%rdi
  mov 16(%rsp), %rsp
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
.size CfaInMemory, . - CfaInMemory
.type LosesR12, @function
LosesR12:               # as gcc's realigned frames: registers stand relative to rbp, and the CFA does not
  .cfi_startproc
  lea 8(%rsp), %r10
  .cfi_def_cfa %r10, 0
  and $-64, %rsp
  push -8(%r10)
  push %rbp
  mov %rsp, %rbp
  .cfi_escape 0x10, 6, 2, 0x76, 0                # rbp at rbp
  push %r12
  push %r10
  .cfi_escape 0x0f, 3, 0x76, 0x70, 0x06          # CFA = *(rbp - 16)
  .cfi_escape 0x10, 12, 2, 0x76, 0x78            # r12 at rbp - 8
  xor %r12d, %r12d
  call *kLosesR12Calls(%rip)
  pop %r10
  .cfi_def_cfa %r10, 0
  pop %r12
  .cfi_restore %r12
  pop %rbp
  .cfi_restore %rbp
  lea -8(%r10), %rsp
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
.size LosesR12, . - LosesR12
.type LoopsByFramePointer, @function
LoopsByFramePointer:    # its tables say that it is its own caller, at one stack pointer
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_rel_offset %rbp, 0
  sub $48, %rsp
  .cfi_def_cfa_offset 64
  lea kLoops(%rip), %rax
  mov %rsp, (%rsp)
  mov %rax, 8(%rsp)
  mov %rsp, %rbp
  .cfi_def_cfa %rbp, 16
  .cfi_offset %rbp, -16
  call *%rdi
kLoops:
  lea 48(%rsp), %rsp
  .cfi_def_cfa %rsp, 16
  pop %rbp
  .cfi_def_cfa %rsp, 8
  .cfi_restore %rbp
  ret
  .cfi_endproc
.size LoopsByFramePointer, . - LoopsByFramePointer
.type KeepsReturnAddress, @function
KeepsReturnAddress:     # its tables give its caller the address that it has itself
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_rel_offset %rbp, 0
  mov %rsp, %rbp
  .cfi_def_cfa_register %rbp
  .cfi_same_value %rip
  call *%rdi
  leave
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
.size KeepsReturnAddress, . - KeepsReturnAddress
.type WrongCfiAtReturn, @function
WrongCfiAtReturn:       # as libcrypto's x25519: what should be taken from the CFA's offset is added to it
  .cfi_startproc
  ud2
  .cfi_adjust_cfa_offset 144
.globl kWrongReturn
kWrongReturn:
  rep ret
  .cfi_endproc
.size WrongCfiAtReturn, . - WrongCfiAtReturn
.type CallsWrongCfi, @function
CallsWrongCfi:
  .cfi_startproc
  sub $200, %rsp
  .cfi_adjust_cfa_offset 200
  movabs $0x1e537c75746c5ebe, %rax   # where the wrong rule finds the return address
  mov %rax, 136(%rsp)
  call WrongCfiAtReturn
  add $200, %rsp
  .cfi_adjust_cfa_offset -200
  ret
  .cfi_endproc
.size CallsWrongCfi, . - CallsWrongCfi
.type LandsInItsCaller, @function
LandsInItsCaller:       # as _Unwind_Resume: its return address is another one by the time it returns
  .cfi_startproc
  push %rdx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rdx, 0
  push %rax
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rax, 0
  lea kPad(%rip), %rax
  mov %rax, 16(%rsp)
  ud2
.globl kLanding
kLanding:
  pop %rax
  .cfi_adjust_cfa_offset -8
  pop %rdx
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.size LandsInItsCaller, . - LandsInItsCaller
.type ThrowsToLandingPad, @function
ThrowsToLandingPad:
  .cfi_startproc
  sub $104, %rsp
  .cfi_adjust_cfa_offset 104
  call LandsInItsCaller
  add $104, %rsp
  .cfi_remember_state
  .cfi_adjust_cfa_offset -104
  ret
kPad:                   # behind an instruction that has another rule
  .cfi_restore_state
  add $104, %rsp
  .cfi_adjust_cfa_offset -104
  ret
  .cfi_endproc
.size ThrowsToLandingPad, . - ThrowsToLandingPad
.type BareTakesRoom, @function
BareTakesRoom:          # rbp is a number here; what earlier calls left in the room stays there, and one such on top
  push %rbp
  push %rbx
  push %r12
  sub $1000, %rsp
  lea kBehindACall(%rip), %rax
  mov %rax, (%rsp)
  mov $0x1234567, %ebp
  RAISE_SIGUSR1 ebx
  add $1000, %rsp
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size BareTakesRoom, . - BareTakesRoom
.globl MadeTakesRoom, kMadeTakesRoomEnd, LeavesCallByPointer, CallsMadeCode
.type MadeTakesRoom, @function
MadeTakesRoom:          # runs wherever it is copied to
  push %rbp
  push %rbx
  push %r12
  sub $1000, %rsp
  mov $0x1234567, %ebp
  RAISE_SIGUSR1 ebx
  xor %ecx, %ecx        # not yet about to return
  add $1000, %rsp
  pop %r12
  pop %rbx
  pop %rbp
  ret
kMadeTakesRoomEnd:
.size MadeTakesRoom, . - MadeTakesRoom
.type LeavesCallByPointer, @function
LeavesCallByPointer:    # a return address that MadeTakesRoom, called from the same place, has in its room
  .cfi_startproc
  sub $24, %rsp
  .cfi_adjust_cfa_offset 24
  lea kJustReturns(%rip), %rax
  call *%rax
  add $24, %rsp
  .cfi_adjust_cfa_offset -24
kJustReturns:
  ret
  .cfi_endproc
.size LeavesCallByPointer, . - LeavesCallByPointer
.type CallsMadeCode, @function
CallsMadeCode:
  .cfi_startproc
  sub $8, %rsp
  .cfi_adjust_cfa_offset 8
  call LeavesCallByPointer
  call *kMadeCode(%rip)
  add $8, %rsp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.size CallsMadeCode, . - CallsMadeCode
.type BareReturns, @function
BareReturns:            # behind the call there is nothing but the return
  call *%rdi
  ret
.size BareReturns, . - BareReturns
.type CallsBareReturns, @function
CallsBareReturns:       # rbp is a number
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbp, 0
  sub $8, %rsp
  .cfi_adjust_cfa_offset 8
  mov $0x1234567, %ebp
  call BareReturns
  add $8, %rsp
  .cfi_adjust_cfa_offset -8
  pop %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbp
  ret
  .cfi_endproc
.size CallsBareReturns, . - CallsBareReturns
.type BareLeaves, @function
BareLeaves:             # as the trampolines of python3.12 -X perf: behind the call there is nothing but its end
  push %rbp
  push %r12
  push %rbx
  sub $488, %rsp
  mov $0x1234567, %ebp
  mov %ebp, %ebx
  mov %ebp, %r12d
  call *%rdi
  add $72, %rsp
  add $416, %rsp
  pop %rbx
  pop %r12
  pop %rbp
  ret
.size BareLeaves, . - BareLeaves
.type BareCallsBare, @function
BareCallsBare:
  push %r13
  sub $32, %rsp
  call BareTakesRoom
  add $32, %rsp
  pop %r13
  ret
.size BareCallsBare, . - BareCallsBare
.type BareAlignsStack, @function
BareAlignsStack:        # as OpenBLAS's dgemm kernels: where the stack was stands in rbx
  sub $96, %rsp
  mov %rbx, (%rsp)
  mov %rbp, 8(%rsp)
  mov %r12, 16(%rsp)
  mov %rsp, %rbx
  mov $0x1234567, %ebp
  sub $28800, %rsp
  and $-4096, %rsp
  RAISE_SIGUSR1 r12d
  mov %rbx, %rsp
  mov (%rsp), %rbx
  mov 8(%rsp), %rbp
  mov 16(%rsp), %r12
  add $96, %rsp
  ret
.size BareAlignsStack, . - BareAlignsStack
.type BareStub, @function
BareStub:               # a PLT entry
  endbr64
  .byte 0xf2            # bnd, which clang does not know
  jmp *kBarePointer(%rip)
.size BareStub, . - BareStub
.type BareOnEmptyStack, @function
BareOnEmptyStack:       # rdi: where a stack begins that nobody has written to
  push %r12
  push %r13
  xchg %rdi, %rsp
  push %rdi
  sub $8, %rsp
  mov $0x1234567, %r12d
  xchg %rbp, %r12
  RAISE_SIGUSR1 r13d
  xchg %rbp, %r12
  add $8, %rsp
  pop %rsp
  pop %r13
  pop %r12
  ret
.size BareOnEmptyStack, . - BareOnEmptyStack
.type BarePointsAtStack, @function
BarePointsAtStack:      # rdi: a return address; rbp points to numbers on the stack, and it stands among them
  push %rbp
  push %rbx
  sub $2000, %rsp
  mov %rdi, %rbp
  mov $0x1234567, %eax
  mov $250, %ecx
  mov %rsp, %rdi
  rep stosq
  lea 800(%rsp), %rax
  mov %rax, 512(%rsp)
  mov %rbp, 520(%rsp)
  lea 512(%rsp), %rbp
  RAISE_SIGUSR1 ebx
  add $2000, %rsp
  pop %rbx
  pop %rbp
  ret
.size BarePointsAtStack, . - BarePointsAtStack
.data
.align 8
kBarePointer:
  .quad BareTakesRoom
.text
)");

void (*kLosesR12Calls)() = nullptr;
void (*kMadeCode)() = nullptr;

void KnownCaller(void (*function)()) {
  function();
  asm volatile("" ::: "memory");  // no tail call
}
void KnownHook(uint32_t skip) {
  auto* test = profagent::UnwindFixture::current_;
  test->hook_frame_ = reinterpret_cast<char*>(__builtin_frame_address(0));
  test->result_ = test->unwinder_->WalkFromHere(test->bounds_, skip, test->frames_);
  asm volatile("" ::: "memory");
}
void CallsTheHook(uint32_t skip) {
  KnownHook(skip);
  asm volatile("" ::: "memory");
}
