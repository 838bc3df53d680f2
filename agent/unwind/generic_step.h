// One frame by its full row: every register rule, every expression, signal frames.
//
// Context: `signal`, `hook`. The way of the few rows that have no recipe; decodes them anew each time.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/unwind/eh_frame.h"
#include "agent/unwind/module_map.h"
#include "agent/unwind/recipe.h"
#include "agent/unwind/registers.h"
#include "agent/unwind/stack_memory.h"

namespace profagent {

// Decodes the row of `address` and packs it. kFramePointer: there is no usable row.
PROF_SIGNAL_SAFE Recipe DecodeRecipe(ModuleMap* modules, const Module& module, uintptr_t address);

enum class GenericStep : uint8_t { kCaller, kInterrupted, kOutermost, kUnreadable, kBroken };

// Moves `registers` to the caller of the frame whose rule stands at `address`. kInterrupted: it was a signal frame,
// so the new pc is an instruction that was about to run.
PROF_SIGNAL_SAFE GenericStep StepByRow(ModuleMap* modules, StackMemory* memory, uintptr_t address,
                                       Registers* registers);

// Registers from the kernel's frame on top of the stack, for a signal restorer without unwind information.
PROF_SIGNAL_SAFE bool StepBySigcontext(StackMemory* memory, Registers* registers);

}  // namespace profagent
