// What the unwind table says about one address: where the caller's frame and registers are.
//
// Context: `signal`, `hook`: lives on the handler's stack, so it is packed into 96 bytes; the interpreter
//          holds six of them.
#pragma once

#include <cstdint>

#include "agent/unwind/registers.h"

namespace profagent {

enum class RegisterRule : uint8_t {
  kSame,         // also: nothing was said
  kUndefined,    // gone; of the return address: there is no caller
  kOffset,       // saved at CFA + value
  kValueOffset,  // is CFA + value
  kRegister,     // is in register `value`
  kExpression,   // saved at the address that an expression gives
  kValueIsExpression,
};

enum class CfaRule : uint8_t {
  kNone,            // nothing defined it yet
  kRegisterOffset,  // register + offset
  kExpression,
};

// Trivial on purpose: a row is cleared where it begins (UnwindRow{}), not where room for one is made.
// An expression is named by where its length stands: bytes from the start of the segment that holds .eh_frame.
struct UnwindRow {
  int32_t value[kRegisterCount];
  RegisterRule rule[kRegisterCount];
  CfaRule cfa_rule;
  uint8_t cfa_register;
  int32_t cfa_offset;  // or the expression
  bool signal_frame;
};
static_assert(sizeof(UnwindRow) <= 96);

}  // namespace profagent
