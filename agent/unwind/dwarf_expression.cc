#include "agent/unwind/dwarf_expression.h"

namespace profagent {
namespace {

constexpr int kMaxValues = 16;
constexpr int kMaxSteps = 256;  // DW_OP_skip can go back

enum Operation : uint8_t {
  kAddr = 0x03,
  kDeref = 0x06,
  kConst1u = 0x08,
  kConst1s,
  kConst2u,
  kConst2s,
  kConst4u,
  kConst4s,
  kConst8u,
  kConst8s,
  kConstu,
  kConsts,
  kDup,
  kDrop,
  kOver,
  kPick,
  kSwap,
  kRot,
  kAbs = 0x19,
  kAnd,
  kDiv,
  kMinus,
  kMod,
  kMul,
  kNeg,
  kNot,
  kOr,
  kPlus,
  kPlusUconst,
  kShl,
  kShr,
  kShra,
  kXor,
  kBra,
  kEq,
  kGe,
  kGt,
  kLe,
  kLt,
  kNe,
  kSkip,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kReg0,
  kReg31 = 0x6f,
  kBreg0,
  kBreg31 = 0x8f,
  kRegx,
  kBregx = 0x92,
  kDerefSize = 0x94,
  kNop = 0x96,
};

struct Machine {
  explicit Machine(const ExpressionInput& input) : input(input) {}

  const ExpressionInput& input;
  ExpressionValue values[kMaxValues];
  int count = 0;
  bool ok = true;

  PROF_ALWAYS_INLINE void Push(const ExpressionValue& value) {
    if (count == kMaxValues) {
      ok = false;
    } else {
      values[count++] = value;
    }
  }
  PROF_ALWAYS_INLINE void PushConstant(uint64_t value) {
    ExpressionValue constant;
    constant.offset = value;
    Push(constant);
  }
  PROF_ALWAYS_INLINE ExpressionValue Pop() {
    if (count == 0) {
      ok = false;
      return {};
    }
    return values[--count];
  }
  PROF_ALWAYS_INLINE uint64_t PopConstant() {
    ExpressionValue value = Pop();
    if (value.base != ExpressionValue::kConstant) ok = false;
    return value.offset;
  }
};

PROF_SIGNAL_SAFE void PushRegister(Machine* machine, uint64_t number, int64_t offset) {
  if (number >= kRegisterCount) {
    machine->ok = false;
  } else if (number == kReturnAddress) {
    machine->PushConstant(machine->input.pc + static_cast<uint64_t>(offset));
  } else if (machine->input.registers != nullptr) {
    machine->PushConstant(machine->input.registers->value[number] + static_cast<uint64_t>(offset));
  } else {
    ExpressionValue value;
    value.base = static_cast<uint8_t>(number);
    value.offset = static_cast<uint64_t>(offset);
    machine->Push(value);
  }
}

PROF_SIGNAL_SAFE void Dereference(Machine* machine, unsigned size) {
  ExpressionValue value = machine->Pop();
  if (!machine->ok) return;
  if (value.base != ExpressionValue::kConstant) {
    if (value.dereferenced || size != 8) {
      machine->ok = false;
      return;
    }
    value.dereferenced = true;
    machine->Push(value);
    return;
  }
  uint64_t word = 0;
  bool sized = size == 1 || size == 2 || size == 4 || size == 8;
  if (!sized || machine->input.memory == nullptr || !machine->input.memory->Read(value.offset, &word)) {
    machine->ok = false;
    return;
  }
  if (size < 8) word &= (uint64_t{1} << 8 * size) - 1;
  machine->PushConstant(word);
}

// Adds a constant to whatever is on top.
PROF_SIGNAL_SAFE void Add(Machine* machine, uint64_t constant) {
  ExpressionValue value = machine->Pop();
  if (!machine->ok) return;
  if (value.dereferenced) {
    int64_t sum = value.added + static_cast<int64_t>(constant);
    if (static_cast<int64_t>(constant) > INT32_MAX || static_cast<int64_t>(constant) < INT32_MIN ||
        sum != static_cast<int32_t>(sum)) {
      machine->ok = false;
    }
    value.added = static_cast<int32_t>(sum);
  } else {
    value.offset += constant;
  }
  machine->Push(value);
}

PROF_SIGNAL_SAFE void AddTwo(Machine* machine) {
  ExpressionValue right = machine->Pop();
  if (right.base == ExpressionValue::kConstant) {
    Add(machine, right.offset);
    return;
  }
  uint64_t left = machine->PopConstant();
  machine->Push(right);
  Add(machine, left);
}

PROF_SIGNAL_SAFE void Calculate(Machine* machine, uint8_t operation) {
  uint64_t right = machine->PopConstant();
  uint64_t left = machine->PopConstant();
  if (!machine->ok) return;
  auto signed_left = static_cast<int64_t>(left);
  auto signed_right = static_cast<int64_t>(right);
  bool overflows = signed_right == 0 || (signed_left == INT64_MIN && signed_right == -1);
  switch (operation) {
    case kAnd:
      return machine->PushConstant(left & right);
    case kOr:
      return machine->PushConstant(left | right);
    case kXor:
      return machine->PushConstant(left ^ right);
    case kMinus:
      return machine->PushConstant(left - right);
    case kMul:
      return machine->PushConstant(left * right);
    case kDiv:
      if (overflows) break;
      return machine->PushConstant(static_cast<uint64_t>(signed_left / signed_right));
    case kMod:
      if (right == 0) break;
      return machine->PushConstant(left % right);
    case kShl:
      return machine->PushConstant(right < 64 ? left << right : 0);
    case kShr:
      return machine->PushConstant(right < 64 ? left >> right : 0);
    case kShra:
      return machine->PushConstant(static_cast<uint64_t>(signed_left >> (right < 64 ? right : 63)));
    case kEq:
      return machine->PushConstant(left == right);
    case kNe:
      return machine->PushConstant(left != right);
    case kGe:
      return machine->PushConstant(signed_left >= signed_right);
    case kGt:
      return machine->PushConstant(signed_left > signed_right);
    case kLe:
      return machine->PushConstant(signed_left <= signed_right);
    case kLt:
      return machine->PushConstant(signed_left < signed_right);
    default:
      break;
  }
  machine->ok = false;
}

PROF_SIGNAL_SAFE bool PushLiteral(Machine* machine, uint8_t operation, ByteReader* code) {
  switch (operation) {
    case kAddr:
    case kConst8u:
    case kConst8s:
      machine->PushConstant(code->U64());
      return true;
    case kConst1u:
      machine->PushConstant(code->U8());
      return true;
    case kConst1s:
      machine->PushConstant(static_cast<uint64_t>(static_cast<int8_t>(code->U8())));
      return true;
    case kConst2u:
      machine->PushConstant(code->U16());
      return true;
    case kConst2s:
      machine->PushConstant(static_cast<uint64_t>(static_cast<int16_t>(code->U16())));
      return true;
    case kConst4u:
      machine->PushConstant(code->U32());
      return true;
    case kConst4s:
      machine->PushConstant(static_cast<uint64_t>(static_cast<int32_t>(code->U32())));
      return true;
    case kConstu:
      machine->PushConstant(code->Uleb());
      return true;
    case kConsts:
      machine->PushConstant(static_cast<uint64_t>(code->Sleb()));
      return true;
    default:
      if (operation < kLit0 || operation > kLit31) return false;
      machine->PushConstant(operation - kLit0);
      return true;
  }
}

PROF_SIGNAL_SAFE bool Shuffle(Machine* machine, uint8_t operation, ByteReader* code) {
  int depth = 0;  // of the value that is copied to the top
  switch (operation) {
    case kDrop:
      machine->Pop();
      return true;
    case kSwap:
    case kRot: {
      ExpressionValue top = machine->Pop();
      ExpressionValue second = machine->Pop();
      if (operation == kSwap) {
        machine->Push(top);
        machine->Push(second);
        return true;
      }
      ExpressionValue third = machine->Pop();
      machine->Push(top);
      machine->Push(third);
      machine->Push(second);
      return true;
    }
    case kDup:
      break;
    case kOver:
      depth = 1;
      break;
    case kPick:
      depth = code->U8();
      break;
    default:
      return false;
  }
  if (depth >= machine->count) {
    machine->ok = false;
  } else {
    machine->Push(machine->values[machine->count - 1 - depth]);
  }
  return true;
}

}  // namespace

bool EvaluateExpression(ByteReader code, const ExpressionInput& input, ExpressionValue* result) {
  Machine machine(input);
  if (input.has_initial) machine.PushConstant(input.initial);
  uintptr_t start = code.at();
  uintptr_t limit = code.limit();
  for (int step = 0; !code.at_end(); ++step) {
    if (step == kMaxSteps) return false;
    uint8_t operation = code.U8();
    if (PushLiteral(&machine, operation, &code) || Shuffle(&machine, operation, &code)) {
      // done
    } else if (operation >= kBreg0 && operation <= kBreg31) {
      PushRegister(&machine, operation - kBreg0, code.Sleb());
    } else if (operation >= kReg0 && operation <= kReg31) {
      PushRegister(&machine, operation - kReg0, 0);
    } else if (operation == kRegx) {
      PushRegister(&machine, code.Uleb(), 0);
    } else if (operation == kBregx) {
      uint64_t number = code.Uleb();
      PushRegister(&machine, number, code.Sleb());
    } else if (operation == kDeref) {
      Dereference(&machine, 8);
    } else if (operation == kDerefSize) {
      Dereference(&machine, code.U8());
    } else if (operation == kPlus) {
      AddTwo(&machine);
    } else if (operation == kPlusUconst) {
      Add(&machine, code.Uleb());
    } else if (operation == kAbs || operation == kNeg || operation == kNot) {
      uint64_t value = machine.PopConstant();
      bool negate = operation == kNeg || (operation == kAbs && static_cast<int64_t>(value) < 0);
      machine.PushConstant(operation == kNot ? ~value : negate ? 0 - value : value);
    } else if (operation == kSkip || operation == kBra) {
      auto distance = static_cast<int16_t>(code.U16());
      if (operation == kBra && machine.PopConstant() == 0) distance = 0;
      uintptr_t target = code.at() + static_cast<uintptr_t>(static_cast<intptr_t>(distance));
      if (target < start || target > limit) return false;
      code = ByteReader(target, limit);
    } else if (operation != kNop) {
      Calculate(&machine, operation);
    }
    if (!machine.ok || !code.ok()) return false;
  }
  if (!code.ok() || machine.count == 0) return false;
  *result = machine.values[machine.count - 1];
  return true;
}

}  // namespace profagent
