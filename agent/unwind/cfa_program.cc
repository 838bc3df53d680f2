// The interpreter of DW_CFA programs: FindRow of eh_frame.h.
//
// Context: `signal`, `hook`. Stack: the rows of remember_state, 96 bytes each, are the largest part of what a
//          walk needs.
#include "agent/unwind/cfa_operation.h"
#include "agent/unwind/eh_frame.h"

namespace profagent {
namespace {

struct Interpreter {
  Interpreter(const EhFrameTables& tables, const FrameEntry& entry, uintptr_t pc, UnwindRow* row)
      : tables(tables), entry(entry), pc(pc), row(row), location(entry.start) {}

  const EhFrameTables& tables;
  const FrameEntry& entry;
  uintptr_t pc;  // whose row is wanted
  UnwindRow* row;
  uintptr_t location;
  bool ok = true;
  int remembered = 0;
  UnwindRow initial;                 // what DW_CFA_restore goes back to: the row at the program's start
  UnwindRow states[kMaxRemembered];  // written before they are read: not cleared

  PROF_ALWAYS_INLINE void SetRule(uint64_t number, RegisterRule rule, int64_t value) {
    if (number >= kRegisterCount) return;  // vector registers: not ours to restore
    if (value != static_cast<int32_t>(value)) ok = false;
    row->rule[number] = rule;
    row->value[number] = static_cast<int32_t>(value);
  }
  PROF_ALWAYS_INLINE void Restore(uint64_t number) {
    if (number >= kRegisterCount) return;
    row->rule[number] = initial.rule[number];
    row->value[number] = initial.value[number];
  }
  PROF_ALWAYS_INLINE void SetCfaRegister(uint64_t number) {
    if (number >= kReturnAddress) ok = false;
    row->cfa_rule = CfaRule::kRegisterOffset;
    row->cfa_register = static_cast<uint8_t>(number);
  }
  PROF_ALWAYS_INLINE void SetCfaOffset(int64_t offset) {
    if (offset != static_cast<int32_t>(offset) || row->cfa_rule == CfaRule::kExpression) ok = false;
    row->cfa_offset = static_cast<int32_t>(offset);
  }
  // Remembers where the expression's length stands, and passes over it.
  PROF_ALWAYS_INLINE int64_t TakeExpression(ByteReader* code) {
    uint64_t position = code->at() - tables.segment.start;
    code->Skip(code->Uleb());
    if (position > INT32_MAX) ok = false;
    return static_cast<int64_t>(position);
  }
  PROF_ALWAYS_INLINE int64_t Scaled(uint64_t factored) const {
    return static_cast<int64_t>(factored * static_cast<uint64_t>(entry.data_alignment));
  }
};

// Operations with an opcode byte of their own, but for those that move the location.
PROF_SIGNAL_SAFE void RunOperation(Interpreter* in, uint8_t operation, ByteReader* code) {
  switch (operation) {
    case kNop:
      return;
    case kOffsetExtended: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kOffset, in->Scaled(code->Uleb()));
    }
    case kOffsetExtendedSf: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kOffset, in->Scaled(static_cast<uint64_t>(code->Sleb())));
    }
    case kGnuNegativeOffsetExtended: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kOffset, in->Scaled(0 - code->Uleb()));
    }
    case kValOffset: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kValueOffset, in->Scaled(code->Uleb()));
    }
    case kValOffsetSf: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kValueOffset, in->Scaled(static_cast<uint64_t>(code->Sleb())));
    }
    case kRestoreExtended:
      return in->Restore(code->Uleb());
    case kUndefined:
      return in->SetRule(code->Uleb(), RegisterRule::kUndefined, 0);
    case kSameValue:
      return in->SetRule(code->Uleb(), RegisterRule::kSame, 0);
    case kRegister: {
      uint64_t number = code->Uleb();
      uint64_t other = code->Uleb();
      if (number < kRegisterCount && other >= kRegisterCount) in->ok = false;
      return in->SetRule(number, RegisterRule::kRegister, static_cast<int64_t>(other));
    }
    case kExpression: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kExpression, in->TakeExpression(code));
    }
    case kValExpression: {
      uint64_t number = code->Uleb();
      return in->SetRule(number, RegisterRule::kValueIsExpression, in->TakeExpression(code));
    }
    case kDefCfa:
      in->SetCfaRegister(code->Uleb());
      return in->SetCfaOffset(static_cast<int64_t>(code->Uleb()));
    case kDefCfaSf:
      in->SetCfaRegister(code->Uleb());
      return in->SetCfaOffset(in->Scaled(static_cast<uint64_t>(code->Sleb())));
    case kDefCfaRegister:
      if (in->row->cfa_rule == CfaRule::kExpression) in->row->cfa_offset = 0;
      return in->SetCfaRegister(code->Uleb());
    case kDefCfaOffset:
      return in->SetCfaOffset(static_cast<int64_t>(code->Uleb()));
    case kDefCfaOffsetSf:
      return in->SetCfaOffset(in->Scaled(static_cast<uint64_t>(code->Sleb())));
    case kDefCfaExpression:
      in->row->cfa_rule = CfaRule::kExpression;
      in->row->cfa_offset = static_cast<int32_t>(in->TakeExpression(code));
      return;
    case kRememberState:
      if (in->remembered == kMaxRemembered) {
        in->ok = false;
      } else {
        in->states[in->remembered++] = *in->row;
      }
      return;
    case kRestoreState:
      if (in->remembered == 0) {
        in->ok = false;
      } else {
        *in->row = in->states[--in->remembered];
      }
      return;
    case kGnuArgsSize:  // how many bytes of arguments were pushed: only landing pads need it
      code->Uleb();
      return;
    default:
      in->ok = false;
  }
}

// Moves the location if the operation does that.
PROF_SIGNAL_SAFE bool MoveLocation(Interpreter* in, uint8_t operation, ByteReader* code) {
  uint64_t advance = 0;
  switch (operation) {
    case kSetLoc: {
      PointerBases bases{.text = in->tables.text, .data = in->tables.header, .function = in->entry.start};
      in->location = code->Pointer(in->entry.pointer_encoding, bases, in->tables.segment);
      return true;
    }
    case kAdvanceLoc1:
      advance = code->U8();
      break;
    case kAdvanceLoc2:
      advance = code->U16();
      break;
    case kAdvanceLoc4:
      advance = code->U32();
      break;
    case kAdvanceLoc8:
      advance = code->U64();
      break;
    default:
      if ((operation & ~kOperandMask) != kAdvanceLoc) return false;
      advance = operation & kOperandMask;
  }
  in->location += advance * in->entry.code_alignment;
  return true;
}

PROF_SIGNAL_SAFE bool Run(Interpreter* in, ByteReader code) {
  while (!code.at_end()) {
    uint8_t operation = code.U8();
    if (MoveLocation(in, operation, &code)) {
      if (in->location > in->pc) return code.ok();
    } else if ((operation & ~kOperandMask) == kOffset) {
      in->SetRule(operation & kOperandMask, RegisterRule::kOffset, in->Scaled(code.Uleb()));
    } else if ((operation & ~kOperandMask) == kRestore) {
      in->Restore(operation & kOperandMask);
    } else {
      RunOperation(in, operation, &code);
    }
    if (!in->ok || !code.ok()) return false;
  }
  return code.ok();
}

}  // namespace

bool FindRow(const EhFrameTables& tables, const FrameEntry& entry, uintptr_t pc, UnwindRow* row) {
  Interpreter interpreter(tables, entry, pc, row);
  *row = UnwindRow{};
  row->signal_frame = entry.signal_frame;
  interpreter.initial = *row;
  if (!Run(&interpreter, entry.initial)) return false;
  interpreter.initial = *row;
  if (!Run(&interpreter, entry.instructions)) return false;
  return row->cfa_rule != CfaRule::kNone;
}

}  // namespace profagent
