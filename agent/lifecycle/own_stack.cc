#include "agent/lifecycle/own_stack.h"

#include <sys/mman.h>

#include "agent/base/raw_syscall.h"

// profagent_call_on_stack(work, argument, top): work(argument) with the stack pointer at `top`. The frame
// pointer keeps the old stack, and the CFA follows it, so a debugger (and our own unwinder) walks from the
// new stack to the old one.
extern "C" void profagent_call_on_stack(void (*work)(void*), void* argument, void* top);
asm(R"(
  .text
  .local profagent_call_on_stack
  .type profagent_call_on_stack, @function
profagent_call_on_stack:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  mov %rsp, %rbp
  .cfi_def_cfa_register %rbp
  mov %rdx, %rsp
  mov %rdi, %rax
  mov %rsi, %rdi
  call *%rax
  mov %rbp, %rsp
  pop %rbp
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
  .size profagent_call_on_stack, . - profagent_call_on_stack
)");

namespace profagent {
namespace {

constexpr size_t kGuard = 4096;

}  // namespace

void OwnStack::Prepare() {
  if (low_ != nullptr) return;
  long memory = RawSyscall(SYS_mmap, nullptr, kSize + kGuard, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (SyscallError(memory) != 0) return;
  RawSyscall(SYS_mprotect, memory, kGuard, PROT_NONE);
  low_ = reinterpret_cast<char*>(memory) + kGuard;
}

bool OwnStack::Run(void (*work)(void*), void* argument) {
  if (busy_.exchange(true, std::memory_order_acquire)) return false;
  if (low_ != nullptr) {
    profagent_call_on_stack(work, argument, low_ + kSize);
  } else {
    work(argument);
  }
  busy_.store(false, std::memory_order_release);
  return true;
}

}  // namespace profagent
