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
  code->is_loaded = false;
  if (address < CodeWindow::kBefore) return false;
  uintptr_t start = address - CodeWindow::kBefore;
  MemoryRange text;
  {
    ModuleMap::Reader reader(modules);
    const Module* module = modules->Find(address);
    if (module != nullptr) text = SegmentAt(address, module->load_bias, module->headers, PF_X);
    if (!text.empty()) {
      uintptr_t from = start > text.start ? start : text.start;
      uintptr_t limit = text.limit - start > sizeof code->bytes ? start + sizeof code->bytes : text.limit;
      std::memcpy(code->bytes + (from - start), reinterpret_cast<const void*>(from), limit - from);
      code->before = static_cast<uint8_t>(address - from);
      code->after = static_cast<uint8_t>(limit - address);
      code->is_loaded = true;
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
  constexpr uintptr_t kPage = 4096;
  size_t before = address % kPage;
  if (before > CodeWindow::kBefore) return false;
  size = StackMemory::Copy(address - before, code->bytes + CodeWindow::kBefore - before,
                           before + CodeWindow::kAfter);
  if (size <= before) return false;
  code->before = static_cast<uint8_t>(before);
  code->after = static_cast<uint8_t>(size - before);
  return true;
}

// How far in front of pc the called function begins; UINTPTR_MAX: not known, or not there.
PROF_ALWAYS_INLINE uintptr_t Distance(const CallSite& site, uintptr_t pc) {
  if (!site.is_call || site.target == 0 || site.target > pc) return UINTPTR_MAX;
  return pc - site.target < kMaxFunctionSize ? pc - site.target : UINTPTR_MAX;
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

// StepByInstruction, when the code is read.
PROF_SIGNAL_SAFE FramePointerStep StepByCode(ModuleMap* modules, StackMemory* memory, const CodeWindow& code,
                                             Registers* registers) {
  uintptr_t sp = registers->sp();
  if (sp > UINTPTR_MAX - 16) return FramePointerStep::kNothing;
  uint64_t return_address = 0, fp = registers->fp();
  switch (ClassifyInstruction(code)) {
    case PrologueState::kSignalReturn:
      return FramePointerStep::kSignalReturn;
    case PrologueState::kReturnAddressOnTop:
      if (!memory->Read(sp, &return_address) || !CallBefore(modules, return_address).is_call) break;
      Place({return_address, sp + 8, fp}, registers);
      return FramePointerStep::kCaller;
    case PrologueState::kFramePointerPushed:
      if (!memory->Read(sp, &fp) || !memory->Read(sp + 8, &return_address)) break;
      if (!CallBefore(modules, return_address).is_call) break;
      Place({return_address, sp + 16, fp}, registers);
      return FramePointerStep::kCaller;
    case PrologueState::kUnknown:
      break;
  }
  return FramePointerStep::kNothing;
}

// Where code is about to return, its remaining instructions say where to.
PROF_SIGNAL_SAFE bool StepByEpilogue(ModuleMap* modules, StackMemory* memory, const CodeWindow& code,
                                     Registers* registers) {
  Epilogue epilogue;
  uintptr_t sp = registers->sp();
  if (!ReadEpilogue(code, &epilogue)) return false;
  uint64_t return_address = 0;
  if (sp > UINTPTR_MAX - epilogue.size - 16 || !memory->Read(sp + epilogue.size, &return_address) ||
      !CallBefore(modules, return_address).is_call) {
    return false;
  }
  Registers caller = *registers;
  for (uint8_t i = 0; i < epilogue.restored; ++i) {
    auto [number, offset] = epilogue.registers[i];
    if (!memory->Read(sp + offset, &caller.value[number])) return false;
  }
  caller.value[kReturnAddress] = return_address;
  caller.value[kStackPointer] = sp + epilogue.size + 8;
  *registers = caller;
  return true;
}

PROF_SIGNAL_SAFE bool EndsGoroutine(ModuleMap* modules, const FrameRecord& frame) {
  CodeWindow code;
  return frame.readable && frame.return_address >= 4096 && ReadCode(modules, frame.return_address, &code) &&
         code.is_loaded && IsGoroutineEnd(code);
}

// Code that changes stacks by hand (Go's asmcgocall and systemstack) leaves its caller's frame pointer, which may lie below the new
// stack. That it is one, two records in a row say.
PROF_SIGNAL_SAFE bool IsOnStackBelow(ModuleMap* modules, StackMemory* memory, uintptr_t pc, uintptr_t sp,
                                     uintptr_t fp, FrameRecord* frame) {
  if (fp >= sp || fp < 4096) return false;
  const CallSite site = CallBefore(modules, pc);
  if (!site.is_call || site.target != 0) return false;  // it calls what it was given
  *frame = ReadFrame(memory, fp, fp);
  if (!frame->readable || !CallBefore(modules, frame->return_address).is_call) return false;
  FrameRecord next = ReadFrame(memory, fp + 16, frame->fp);
  return next.readable && (CallBefore(modules, next.return_address).is_call || EndsGoroutine(modules, next));
}

// Bytes from the stack pointer to the frame pointer in the body of the function at `start`; UINTPTR_MAX: its prologue does not say.
PROF_SIGNAL_SAFE uintptr_t RoomBelowFrame(ModuleMap* modules, uintptr_t start, uintptr_t pc) {
  constexpr int kMostSteps = 16;
  uintptr_t room = UINTPTR_MAX;
  for (int i = 0; i < kMostSteps && start < pc; ++i) {
    CodeWindow code;
    if (!ReadCode(modules, start, &code)) break;
    PrologueStep step = ReadPrologue(code);
    if (step.length == 0) break;
    if (step.makes_frame) {
      room = step.room;
    } else if (room != UINTPTR_MAX) {
      room += step.room;
    }
    start += step.length;
  }
  return room;
}

// A function that keeps no frame (a hot leaf) and was called by a pointer: the call that the chain shows went to its caller, whose
// whole room lies above the return address on top.
PROF_SIGNAL_SAFE bool IsCalledByChained(ModuleMap* modules, const CallSite& top, const CallSite& chained,
                                        uintptr_t sp, uintptr_t fp, uintptr_t pc) {
  if (top.target != 0 || Distance(chained, pc) == UINTPTR_MAX || fp < sp + 8) return false;
  return RoomBelowFrame(modules, chained.target, pc) == fp - sp - 8;
}

}  // namespace

CallSite CallBefore(ModuleMap* modules, uintptr_t return_address) {
  CallSite site;
  CodeWindow code;
  if (return_address < 4096 || !ReadCode(modules, return_address, &code)) return site;
  site.is_call = FollowsCall(code, return_address, &site.target);
  return site;
}

uintptr_t BehindStub(ModuleMap* modules, uintptr_t target) {
  CodeWindow code;
  if (!ReadCode(modules, target, &code)) return target;
  uintptr_t jump = target + LandingMarkSize(code);
  if (jump != target && !ReadCode(modules, jump, &code)) return target;
  uintptr_t pointer = 0, arrives = 0;
  if (!JumpsThroughMemory(code, jump, &pointer)) return target;
  return StackMemory::Copy(pointer, &arrives, sizeof arrives) == sizeof arrives ? arrives : target;
}

bool MakesFrameRecord(ModuleMap* modules, uintptr_t start, uintptr_t pc) {
  constexpr uintptr_t kPrologue = 48;  // Go's looks at its stack's limit first
  for (uintptr_t at = start; at < pc && at - start < kPrologue; at += CodeWindow::kAfter - 8) {
    CodeWindow code;
    if (!ReadCode(modules, at, &code)) return false;
    if (SetsFramePointer(code, pc - at)) return true;
  }
  return false;
}

FramePointerStep StepByInstruction(ModuleMap* modules, StackMemory* memory, Registers* registers) {
  CodeWindow code;
  if (!ReadCode(modules, registers->pc(), &code)) return FramePointerStep::kNothing;
  return StepByCode(modules, memory, code, registers);
}

bool FollowsNoCall(ModuleMap* modules, uintptr_t pc) {
  CodeWindow code;
  uintptr_t target;
  return ReadCode(modules, pc, &code) && !FollowsCall(code, pc, &target);
}

FramePointerStep StepByFramePointer(ModuleMap* modules, StackMemory* memory, KnownCalls* known,
                                    bool interrupted, Registers* registers) {
  uintptr_t pc = registers->pc(), sp = registers->sp(), fp = registers->fp();
  if (interrupted || !known->Has(pc)) {
    CodeWindow code;
    const bool is_readable = ReadCode(modules, pc, &code);
    FramePointerStep step =
        is_readable ? StepByCode(modules, memory, code, registers) : FramePointerStep::kNothing;
    if (step == FramePointerStep::kSignalReturn || (interrupted && step == FramePointerStep::kCaller))
      return step;
    if (!interrupted) Place({pc, sp, fp}, registers);  // a call is no prologue, whatever follows it
    if (is_readable && StepByEpilogue(modules, memory, code, registers)) return FramePointerStep::kCaller;
    uintptr_t target;
    bool is_call = is_readable && !code.is_loaded && FollowsCall(code, pc, &target);
    if (is_call && !interrupted && step == FramePointerStep::kNothing) known->Add(pc);
  }

  FrameRecord frame = ReadFrame(memory, sp, fp);
  CallSite chained;
  if (frame.readable && !interrupted && known->Has(frame.return_address)) {
    chained.is_call = true;
  } else if (frame.readable) {
    chained = CallBefore(modules, frame.return_address);
  }
  const bool ends_goroutine = !chained.is_call && EndsGoroutine(modules, frame);
  if (interrupted && sp <= UINTPTR_MAX - 8) {
    uint64_t word = 0;
    CallSite top = memory->Read(sp, &word) ? CallBefore(modules, word) : CallSite{};
    const bool any_top = !chained.is_call && !ends_goroutine;
    if (top.is_call && (any_top || Distance(top, pc) < Distance(chained, pc))) {
      Place({word, sp + 8, fp}, registers);
      return FramePointerStep::kCaller;
    }
    if (top.is_call && IsCalledByChained(modules, top, chained, sp, fp, pc)) {
      Place({word, sp + 8, fp}, registers);
      return FramePointerStep::kLeafCaller;
    }
  }
  if (chained.is_call) {
    Place({frame.return_address, fp + 16, frame.fp}, registers);
    return FramePointerStep::kCaller;
  }
  if (ends_goroutine) return FramePointerStep::kGoroutineEnd;
  if (!interrupted && IsOnStackBelow(modules, memory, pc, sp, fp, &frame)) {
    Place({frame.return_address, fp + 16, frame.fp}, registers);
    return FramePointerStep::kCaller;
  }
  if (fp == 0 || (frame.readable && frame.return_address == 0)) return FramePointerStep::kOutermost;
  return frame.shaped && !frame.readable ? FramePointerStep::kUnreadable : FramePointerStep::kNothing;
}

}  // namespace profagent
