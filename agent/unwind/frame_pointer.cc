#include "agent/unwind/frame_pointer.h"

#include <cstring>

namespace profagent {
namespace {

// A function is at most this long when a call's target is to name it.
constexpr uintptr_t kMaxFunctionSize = uintptr_t{1} << 20;

// Code bytes around `address`: loaded where an object's text is mapped, else by system call (JIT code may be
// gone, or never have been).
PROF_SIGNAL_SAFE bool ReadCode(ModuleMap* modules, uintptr_t address, CodeWindow* code) {
  code->before = code->after = 0;
  if (address < CodeWindow::kBefore) return false;
  uintptr_t start = address - CodeWindow::kBefore;
  MemoryRange text;
  {
    ModuleMap::Reader reader(modules);
    const Module* module = modules->Find(address);
    if (module != nullptr) {
      text = module->text;
      if (!text.Holds(address, 0)) return false;
      uintptr_t from = start > text.start ? start : text.start;
      uintptr_t limit = text.limit - start > sizeof code->bytes ? start + sizeof code->bytes : text.limit;
      std::memcpy(code->bytes + (from - start), reinterpret_cast<const void*>(from), limit - from);
      code->before = static_cast<uint8_t>(address - from);
      code->after = static_cast<uint8_t>(limit - address);
      return true;
    }
  }
  size_t size = StackMemory::Copy(start, code->bytes, sizeof code->bytes);
  if (size >= CodeWindow::kBefore) {
    code->before = CodeWindow::kBefore;
    code->after = static_cast<uint8_t>(size - CodeWindow::kBefore);
    return true;
  }
  // The page in front is not there.
  size = StackMemory::Copy(address, code->bytes + CodeWindow::kBefore, CodeWindow::kAfter);
  code->after = static_cast<uint8_t>(size);
  return size > 0;
}

struct Candidate {
  bool plausible = false;
  uintptr_t return_address = 0;
  uintptr_t target = 0;  // of the call in front of it; 0: not in the instruction
};

PROF_SIGNAL_SAFE Candidate Examine(ModuleMap* modules, uintptr_t return_address) {
  Candidate candidate;
  candidate.return_address = return_address;
  CodeWindow code;
  if (return_address < 4096 || !ReadCode(modules, return_address, &code)) return candidate;
  candidate.plausible = FollowsCall(code, return_address, &candidate.target);
  return candidate;
}

// How far in front of pc the called function begins; UINTPTR_MAX: not known, or not there.
PROF_ALWAYS_INLINE uintptr_t Distance(const Candidate& candidate, uintptr_t pc) {
  if (!candidate.plausible || candidate.target == 0 || candidate.target > pc) return UINTPTR_MAX;
  return pc - candidate.target < kMaxFunctionSize ? pc - candidate.target : UINTPTR_MAX;
}

PROF_ALWAYS_INLINE void Set(Registers* registers, uint64_t pc, uint64_t sp, uint64_t fp) {
  registers->value[kReturnAddress] = pc;
  registers->value[kStackPointer] = sp;
  registers->value[kFramePointer] = fp;
}

// The frame that fp names, if it can be one: aligned, above the stack pointer, readable.
struct FrameRecord {
  bool readable = false;
  bool shaped = false;
  uint64_t fp = 0;
  uint64_t return_address = 0;
};
PROF_SIGNAL_SAFE FrameRecord ReadFrame(StackMemory* memory, uintptr_t sp, uintptr_t fp) {
  FrameRecord frame;
  frame.shaped = fp % 8 == 0 && fp >= sp && fp <= UINTPTR_MAX - 16;
  frame.readable = frame.shaped && memory->Read(fp, &frame.fp) && memory->Read(fp + 8, &frame.return_address);
  return frame;
}

}  // namespace

FramePointerStep StepByInstruction(ModuleMap* modules, StackMemory* memory, Registers* registers) {
  CodeWindow code;
  if (!ReadCode(modules, registers->pc(), &code)) return FramePointerStep::kNothing;
  uintptr_t sp = registers->sp();
  if (sp > UINTPTR_MAX - 16) return FramePointerStep::kNothing;
  uint64_t return_address = 0, fp = registers->fp();
  switch (ClassifyInstruction(code)) {
    case PrologueState::kSignalReturn:
      return FramePointerStep::kSignalReturn;
    case PrologueState::kReturnAddressOnTop:
      if (!memory->Read(sp, &return_address) || !Examine(modules, return_address).plausible) break;
      Set(registers, return_address, sp + 8, fp);
      return FramePointerStep::kCaller;
    case PrologueState::kFramePointerPushed:
      if (!memory->Read(sp, &fp) || !memory->Read(sp + 8, &return_address)) break;
      if (!Examine(modules, return_address).plausible) break;
      Set(registers, return_address, sp + 16, fp);
      return FramePointerStep::kCaller;
    case PrologueState::kUnknown:
      break;
  }
  return FramePointerStep::kNothing;
}

bool FollowsNoCall(ModuleMap* modules, uintptr_t pc) {
  CodeWindow code;
  uintptr_t target;
  return ReadCode(modules, pc, &code) && !FollowsCall(code, pc, &target);
}

FramePointerStep StepByFramePointer(ModuleMap* modules, StackMemory* memory, bool interrupted,
                                    Registers* registers) {
  uintptr_t pc = registers->pc(), sp = registers->sp(), fp = registers->fp();
  FramePointerStep step = StepByInstruction(modules, memory, registers);
  if (step == FramePointerStep::kSignalReturn || (interrupted && step == FramePointerStep::kCaller))
    return step;
  if (!interrupted) Set(registers, pc, sp, fp);  // a call is no prologue, whatever follows it

  FrameRecord frame = ReadFrame(memory, sp, fp);
  Candidate chained = frame.readable ? Examine(modules, frame.return_address) : Candidate{};
  if (interrupted && sp <= UINTPTR_MAX - 8) {
    uint64_t word = 0;
    Candidate top = memory->Read(sp, &word) ? Examine(modules, word) : Candidate{};
    if (top.plausible && (!chained.plausible || Distance(top, pc) < Distance(chained, pc))) {
      Set(registers, word, sp + 8, fp);
      return FramePointerStep::kCaller;
    }
  }
  if (chained.plausible) {
    Set(registers, frame.return_address, fp + 16, frame.fp);
    return FramePointerStep::kCaller;
  }
  if (fp == 0 || (frame.readable && frame.return_address == 0)) return FramePointerStep::kOutermost;
  return frame.shaped && !frame.readable ? FramePointerStep::kUnreadable : FramePointerStep::kNothing;
}

}  // namespace profagent
