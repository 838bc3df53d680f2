// x86-64: register numbers, the ucontext, the kernel's signal frame, and how code looks around a call.
//
// Context: `signal`, `hook`.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#include "agent/base/signal_safe.h"

namespace profagent {

// DWARF numbers (System V ABI, AMD64 supplement, figure 3.36).
enum RegisterNumber : uint8_t {
  kRax = 0,
  kRdx = 1,
  kRcx = 2,
  kRbx = 3,
  kRsi = 4,
  kRdi = 5,
  kFramePointer = 6,  // rbp
  kStackPointer = 7,  // rsp
  kR12 = 12,
  kR13 = 13,
  kR14 = 14,
  kR15 = 15,
  kReturnAddress = 16,  // rip
  kRegisterCount = 17,
};

// What a function must give back as it found it, and so what a recipe has room for. rbp stands first: the
// fast walk knows no other.
inline constexpr uint8_t kCalleeSaved[] = {kFramePointer, kRbx, kR12, kR13, kR14, kR15};
inline constexpr size_t kCalleeSavedCount = sizeof kCalleeSaved;

// Bytes below the stack pointer that belong to a leaf function. The kernel keeps signal frames out of them.
inline constexpr uintptr_t kRedZone = 128;

// What the fast walk follows of a frame.
struct FramePosition {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;
};

struct Registers {
  uint64_t value[kRegisterCount];

  PROF_ALWAYS_INLINE uint64_t pc() const { return value[kReturnAddress]; }
  PROF_ALWAYS_INLINE uint64_t sp() const { return value[kStackPointer]; }
  PROF_ALWAYS_INLINE uint64_t fp() const { return value[kFramePointer]; }
};

PROF_ALWAYS_INLINE void Place(const FramePosition& position, Registers* registers) {
  registers->value[kReturnAddress] = position.pc;
  registers->value[kStackPointer] = position.sp;
  registers->value[kFramePointer] = position.fp;
}

// The registers at the instruction that a signal interrupted.
PROF_SIGNAL_SAFE void LoadRegisters(const ucontext_t& context, Registers* registers);

// The same without what the fast walk has no use for.
PROF_ALWAYS_INLINE FramePosition PositionOf(const ucontext_t& context) {
  const greg_t* gregs = context.uc_mcontext.gregs;
  return {static_cast<uintptr_t>(gregs[REG_RIP]), static_cast<uintptr_t>(gregs[REG_RSP]),
          static_cast<uintptr_t>(gregs[REG_RBP])};
}

// The registers at this very place in the function that this is inlined into. Those that a call may destroy
// are 0: nobody's unwind rule can refer to them at a call.
PROF_ALWAYS_INLINE void CaptureRegisters(Registers* registers) {
  for (uint64_t& value : registers->value) value = 0;
  uint64_t* v = registers->value;
  asm volatile(
      "movq %%rbx, 3*8(%0)\n\t"
      "movq %%rbp, 6*8(%0)\n\t"
      "movq %%rsp, 7*8(%0)\n\t"
      "movq %%r12, 12*8(%0)\n\t"
      "movq %%r13, 13*8(%0)\n\t"
      "movq %%r14, 14*8(%0)\n\t"
      "movq %%r15, 15*8(%0)\n\t"
      "leaq (%%rip), %%rcx\n\t"
      "movq %%rcx, 16*8(%0)\n\t"
      :
      : "a"(v)
      : "rcx", "memory");
}

PROF_ALWAYS_INLINE FramePosition CapturePosition() {
  FramePosition here;
  asm volatile(
      "leaq (%%rip), %0\n\t"
      "movq %%rsp, %1\n\t"
      "movq %%rbp, %2\n\t"
      : "=&r"(here.pc), "=&r"(here.sp), "=&r"(here.fp));
  return here;
}

// One word of the stack. An instruction of our own, because address and thread sanitizers must not look at
// reads of other functions' frames.
PROF_ALWAYS_INLINE uint64_t LoadWord(uintptr_t address) {
  uint64_t value;
  asm volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}

// The kernel's rt_sigframe, seen from the restorer that the handler returned to: rsp points at a ucontext.
// Where in it register `number` stands, from rsp.
PROF_ALWAYS_INLINE size_t SigcontextOffset(uint8_t number) {
  constexpr uint8_t kGregs[kRegisterCount] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                              REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                              REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  return offsetof(ucontext_t, uc_mcontext) + kGregs[number] * sizeof(greg_t);
}

// What code bytes around an address say. `before` bytes in front of it and `after` behind were readable.
struct CodeWindow {
  static constexpr size_t kBefore = 8, kAfter = 24;
  uint8_t bytes[kBefore + kAfter];
  uint8_t before = 0;
  uint8_t after = 0;
  bool is_loaded = false;  // an object's, which stays as it is
  PROF_ALWAYS_INLINE uint8_t At(int offset) const { return bytes[static_cast<int>(kBefore) + offset]; }
};

// Where the stack stands at an instruction of code that has no unwind information, as far as it can be seen.
enum class PrologueState : uint8_t {
  kUnknown,
  kReturnAddressOnTop,  // nothing pushed yet, or everything popped
  kFramePointerPushed,  // return address above the saved frame pointer
  kSignalReturn,        // a signal restorer: the kernel's frame is on top
};
PROF_SIGNAL_SAFE PrologueState ClassifyInstruction(const CodeWindow& code);

// What is left of a function that does nothing any more but leave: gives room back, restores registers, returns.
struct Epilogue {
  static constexpr uint8_t kMostRestored = 6;

  uint32_t size = 0;  // bytes from the stack pointer to the return address
  uint8_t restored = 0;
  struct {
    uint8_t number;   // of the register
    uint32_t offset;  // from the stack pointer
  } registers[kMostRestored];
};
// False: something else is done at the window's address, or more than is in the window.
PROF_SIGNAL_SAFE bool ReadEpilogue(const CodeWindow& code, Epilogue* epilogue);

// Whether a call instruction ends at the window's address; `target` is where it goes, 0 when that is not in
// the instruction.
PROF_SIGNAL_SAFE bool FollowsCall(const CodeWindow& code, uintptr_t address, uintptr_t* target);

// Whether it calls where a word at a fixed place points (call *x(%rip)); `pointer`: that place.
PROF_SIGNAL_SAFE bool FollowsCallThroughMemory(const CodeWindow& code, uintptr_t address, uintptr_t* pointer);

// Whether one of the instructions in `size` bytes from the window's address on makes rbp point at the frame: mov %rsp,%rbp,
// or the lea x(%rsp),%rbp of Go before 1.21.
PROF_SIGNAL_SAFE bool SetsFramePointer(const CodeWindow& code, uintptr_t size);

// What the instruction at the window's address, one of those that functions with a frame pointer begin with, does to the frame.
struct PrologueStep {
  uint8_t length = 0;  // of the instruction; 0: it is none of them
  bool makes_frame = false;
  uint32_t room = 0;  // bytes that it takes; where it makes the frame, from the stack pointer to the frame
};
PROF_SIGNAL_SAFE PrologueStep ReadPrologue(const CodeWindow& code);

// Whether the window's address is where Go lets a goroutine's first function return to, which nobody called: one byte into
// runtime.goexit (nop; call; nop).
PROF_SIGNAL_SAFE bool IsGoroutineEnd(const CodeWindow& code);

// Bytes of what marks the target of an indirect jump (endbr64) at the window's address, 0 when there is none.
PROF_SIGNAL_SAFE uint8_t LandingMarkSize(const CodeWindow& code);

// Whether the instruction at the window's address, `address`, jumps to where a word at a fixed place points (a PLT
// entry); `pointer`: that place.
PROF_SIGNAL_SAFE bool JumpsThroughMemory(const CodeWindow& code, uintptr_t address, uintptr_t* pointer);

}  // namespace profagent
