// The next frame of code that has no unwind information: hand-written assembly, JIT code, broken tables.
//
// Context: `signal`, `hook`.
// Believes: a frame-pointer chain that is aligned, climbs, can be read, and whose return address stands behind a
//           call instruction in executable memory. Behind a call by a function pointer it may go down to another
//           stack. At an interrupted instruction also the word on top of the stack, since there may be no frame yet,
//           or any more.
// Choice:   what the instruction itself says (push %rbp, ret, a PLT jump...) comes first; then, where a function has only
//           its epilogue left (the trampolines of python3.12 -X perf), what that will do. Then, of the two
//           candidates, the one whose call goes to the function nearest in front of pc; then the chain; then the
//           top of the stack. A stale return address in a local variable loses by that order.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/unwind/known_calls.h"
#include "agent/unwind/module_map.h"
#include "agent/unwind/registers.h"
#include "agent/unwind/stack_memory.h"

namespace profagent {

enum class FramePointerStep : uint8_t {
  kCaller,        // `registers` hold pc, sp, fp of the caller
  kLeafCaller,    // the same, and the frame of what the chain leads to says so: nothing needs to be searched
  kSignalReturn,  // pc is a signal restorer: the interrupted registers stand on the stack
  kOutermost,     // the chain ends in 0, as the ABI has it
  kGoroutineEnd,  // of a goroutine's first function: nothing above it on the stack is its caller
  kNothing,       // nothing plausible
  kUnreadable,    // the chain leads where nothing can be read
};

// Whether the function that begins at `start` has made rbp point at its frame before it came to pc.
PROF_SIGNAL_SAFE bool MakesFrameRecord(ModuleMap* modules, uintptr_t start, uintptr_t pc);

// What the interrupted instruction itself says about the top of the stack. kNothing: nothing, or nothing plausible; `registers`
// are as before.
PROF_SIGNAL_SAFE FramePointerStep StepByInstruction(ModuleMap* modules, StackMemory* memory,
                                                    Registers* registers);

// What stands in front of an address that may be a return address.
struct CallSite {
  bool is_call = false;
  uintptr_t target = 0;  // 0: not in the instruction (a function pointer)
};
PROF_SIGNAL_SAFE CallSite CallBefore(ModuleMap* modules, uintptr_t return_address);

// Where a call of `target` arrives: behind the jump of a PLT entry or of a stub like one.
PROF_SIGNAL_SAFE uintptr_t BehindStub(ModuleMap* modules, uintptr_t target);

// Whether code is there that nobody called from: no call instruction ends at pc.
PROF_SIGNAL_SAFE bool FollowsNoCall(ModuleMap* modules, uintptr_t pc);

// `interrupted`: pc is an instruction that was about to run, not one that called.
PROF_SIGNAL_SAFE FramePointerStep StepByFramePointer(ModuleMap* modules, StackMemory* memory,
                                                     KnownCalls* known, bool interrupted,
                                                     Registers* registers);

}  // namespace profagent
