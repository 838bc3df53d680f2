// DWARF expressions as unwind tables use them: a small stack machine.
//
// Context:  `signal`, `hook`. Bounded: 16 values, 256 steps, reads only through StackMemory.
// Two uses: with registers it computes a value. Without, at decode time, it keeps what depends on a register
//           symbolic, so that the forms which occur in practice become rows of the recipe cache:
//             breg7+8 + ((rip & 15) >= 11) << 3     a PLT entry: rip is known, so rsp+8 or rsp+16
//             breg7+208; deref; plus_uconst 8       *(rsp+208)+8: libcrypto
//             breg6-8; deref                        *(rbp-8): gcc's realigned stacks
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/unwind/byte_reader.h"
#include "agent/unwind/registers.h"
#include "agent/unwind/stack_memory.h"

namespace profagent {

// offset, or register + offset, or *(register + offset) + added.
struct ExpressionValue {
  static constexpr uint8_t kConstant = 0xff;
  uint64_t offset = 0;
  int32_t added = 0;
  uint8_t base = kConstant;
  bool dereferenced = false;
};

struct ExpressionInput {
  uint64_t pc = 0;                       // the address whose row this is; DW_OP_breg16
  const Registers* registers = nullptr;  // nullptr: keep registers symbolic
  StackMemory* memory = nullptr;         // with registers: what DW_OP_deref reads
  bool has_initial = false;              // register rules start with the CFA on the stack
  uint64_t initial = 0;
};

// False: an operation we do not know, an unbalanced stack, unreadable memory, or (symbolic) not one of the
// forms above.
PROF_SIGNAL_SAFE bool EvaluateExpression(ByteReader code, const ExpressionInput& input,
                                         ExpressionValue* result);

}  // namespace profagent
