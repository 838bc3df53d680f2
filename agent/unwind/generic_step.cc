#include "agent/unwind/generic_step.h"

#include "agent/unwind/dwarf_expression.h"
#include "agent/unwind/quick_recipe.h"

namespace profagent {
namespace {

PROF_SIGNAL_SAFE __attribute__((noinline)) bool FindRowAt(ModuleMap* modules, const Module& module,
                                                          const EhFrameTables& tables, uintptr_t address,
                                                          UnwindRow* row) {
  if (tables.segment.empty()) return false;
  FrameEntry entry;
  return FindFrameEntry(tables, modules->IndexOf(module, tables), address, &entry) &&
         FindRow(tables, entry, address, row);
}

struct Evaluation {
  const EhFrameTables& tables;
  StackMemory* memory;
  const Registers& old;
  uint64_t cfa;
  bool unreadable = false;
};

// The value of an expression that has to come out as a number.
PROF_SIGNAL_SAFE bool Evaluate(const EhFrameTables& tables, int32_t position, const ExpressionInput& input,
                               uint64_t* value) {
  ExpressionValue result;
  if (!EvaluateExpression(ExpressionCode(tables, position), input, &result)) return false;
  *value = result.offset;
  return result.base == ExpressionValue::kConstant;
}

PROF_SIGNAL_SAFE bool Restore(Evaluation* in, const UnwindRow& row, uint8_t number, uint64_t* value) {
  uint64_t offset = static_cast<uint64_t>(static_cast<int64_t>(row.value[number]));
  ExpressionInput input{.pc = in->old.pc(),
                        .registers = &in->old,
                        .memory = in->memory,
                        .has_initial = true,
                        .initial = in->cfa};
  uint64_t address = in->cfa + offset;
  switch (row.rule[number]) {
    case RegisterRule::kSame:
    case RegisterRule::kUndefined:
      *value = in->old.value[number];
      return true;
    case RegisterRule::kValueOffset:
      *value = address;
      return true;
    case RegisterRule::kRegister:
      *value = in->old.value[row.value[number]];
      return true;
    case RegisterRule::kValueIsExpression:
      return Evaluate(in->tables, row.value[number], input, value);
    case RegisterRule::kExpression:
      if (!Evaluate(in->tables, row.value[number], input, &address)) return false;
      break;
    case RegisterRule::kOffset:
      break;
  }
  in->unreadable = !in->memory->Read(address, value);
  return !in->unreadable;
}

PROF_SIGNAL_SAFE __attribute__((noinline)) GenericStep ApplyRow(const EhFrameTables& tables,
                                                                const UnwindRow& row, StackMemory* memory,
                                                                Registers* registers) {
  if (row.rule[kReturnAddress] == RegisterRule::kUndefined) return GenericStep::kOutermost;
  if (row.rule[kReturnAddress] == RegisterRule::kSame) return GenericStep::kBroken;  // would call itself
  uint64_t cfa = 0;
  if (row.cfa_rule == CfaRule::kRegisterOffset) {
    cfa = registers->value[row.cfa_register] + static_cast<uint64_t>(static_cast<int64_t>(row.cfa_offset));
  } else {
    ExpressionInput input{.pc = registers->pc(), .registers = registers, .memory = memory};
    if (!Evaluate(tables, row.cfa_offset, input, &cfa)) return GenericStep::kUnreadable;
  }
  Registers caller;
  Evaluation evaluation{.tables = tables, .memory = memory, .old = *registers, .cfa = cfa};
  for (uint8_t i = 0; i < kRegisterCount; ++i) {
    if (i == kStackPointer && row.rule[i] == RegisterRule::kSame) {
      caller.value[i] = cfa;
      continue;
    }
    if (!Restore(&evaluation, row, i, &caller.value[i])) {
      return evaluation.unreadable ? GenericStep::kUnreadable : GenericStep::kBroken;
    }
  }
  *registers = caller;
  return row.signal_frame ? GenericStep::kInterrupted : GenericStep::kCaller;
}

PROF_SIGNAL_SAFE __attribute__((noinline)) Recipe DecodeByRow(ModuleMap* modules, const Module& module,
                                                              const EhFrameTables& tables,
                                                              uintptr_t address) {
  UnwindRow row;
  if (!FindRowAt(modules, module, tables, address, &row)) return Recipe::Of(RecipeKind::kFramePointer);
  return MakeRecipe(tables, row, address);
}

}  // namespace

Recipe DecodeRecipe(ModuleMap* modules, const Module& module, uintptr_t address) {
  const EhFrameTables& tables = modules->TablesOf(module);
  if (tables.table != 0) {
    uintptr_t entry = FindTableEntry(tables, modules->IndexOf(module, tables), address);
    Recipe quick = QuickRecipe(tables, entry, address);
    if (quick.kind() != RecipeKind::kNone) return quick;
  }
  return DecodeByRow(modules, module, tables, address);
}

GenericStep StepByRow(ModuleMap* modules, StackMemory* memory, uintptr_t address, Registers* registers) {
  ModuleMap::Reader reader(modules);
  const Module* module = modules->Find(address);
  if (module == nullptr) return GenericStep::kBroken;
  const EhFrameTables& tables = modules->TablesOf(*module);
  UnwindRow row;
  if (!FindRowAt(modules, *module, tables, address, &row)) return GenericStep::kBroken;
  return ApplyRow(tables, row, memory, registers);
}

bool StepBySigcontext(StackMemory* memory, Registers* registers) {
  Registers interrupted;
  for (uint8_t i = 0; i < kRegisterCount; ++i) {
    uintptr_t address = registers->sp() + SigcontextOffset(i);
    if (!memory->Read(address, &interrupted.value[i])) return false;
  }
  *registers = interrupted;
  return true;
}

}  // namespace profagent
