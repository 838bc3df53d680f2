#include "agent/unwind/recipe.h"

#include "agent/unwind/dwarf_expression.h"

namespace profagent {
namespace {

constexpr int64_t kMaxOffset = (int64_t{1} << 21) - 1;  // in words
constexpr int64_t kMaxAdded = 31;

PROF_ALWAYS_INLINE bool IsWords(int64_t bytes) { return bytes % 8 == 0; }

// CFA rules; false: does not fit.
PROF_SIGNAL_SAFE bool FitCfa(const EhFrameTables& tables, const UnwindRow& row, uintptr_t pc,
                             ExpressionValue* cfa) {
  *cfa = ExpressionValue{};
  if (row.cfa_rule == CfaRule::kRegisterOffset) {
    cfa->base = row.cfa_register;
    cfa->offset = static_cast<uint64_t>(static_cast<int64_t>(row.cfa_offset));
  } else {
    ExpressionInput input;
    input.pc = pc;
    if (!EvaluateExpression(ExpressionCode(tables, row.cfa_offset), input, cfa)) return false;
  }
  auto offset = static_cast<int64_t>(cfa->offset);
  if (cfa->base >= kReturnAddress || !IsWords(offset) || !IsWords(cfa->added)) return false;
  if (offset / 8 > kMaxOffset || offset / 8 < -kMaxOffset) return false;
  return cfa->added >= 0 && cfa->added / 8 <= kMaxAdded;
}

// Where a callee-saved register stands: field of the recipe. `from_base`: counted from the base register.
PROF_SIGNAL_SAFE bool FitSaved(const EhFrameTables& tables, const UnwindRow& row, uint8_t number,
                               uint8_t base, uint8_t* field, bool* from_base) {
  *from_base = false;
  *field = Recipe::kNotSaved;
  int64_t words = 0;
  switch (row.rule[number]) {
    case RegisterRule::kSame:
    case RegisterRule::
        kUndefined:  // gone: whoever needs it below gets a wrong value or none; it says nobody does
      return true;
    case RegisterRule::kOffset:
      if (!IsWords(row.value[number])) return false;
      words = -row.value[number] / 8 - 1;
      break;
    case RegisterRule::kExpression: {
      ExpressionInput input;
      input.has_initial =
          true;  // the CFA, which these expressions do not use: 0 would be taken for an address
      ExpressionValue where;
      if (!EvaluateExpression(ExpressionCode(tables, row.value[number]), input, &where)) return false;
      auto offset = static_cast<int64_t>(where.offset);
      if (where.base != base || where.dereferenced || !IsWords(offset)) return false;
      words = -offset / 8;
      *from_base = true;
      break;
    }
    default:
      return false;
  }
  if (words < 0 || words >= Recipe::kNotSaved) return false;
  *field = static_cast<uint8_t>(words);
  return true;
}

}  // namespace

Recipe MakeRecipe(const EhFrameTables& tables, const UnwindRow& row, uintptr_t pc) {
  if (row.rule[kReturnAddress] == RegisterRule::kUndefined) return Recipe::Of(RecipeKind::kOutermost);
  const Recipe generic = Recipe::Of(RecipeKind::kGeneric);
  if (row.signal_frame) return generic;
  // The mark of a function that ends in __builtin_eh_return, as libgcc's unwinder: its return address may be a landing
  // pad, which FollowAll looks into.
  if (row.rule[kRax] == RegisterRule::kOffset && row.rule[kRdx] == RegisterRule::kOffset) return generic;
  if (row.rule[kReturnAddress] != RegisterRule::kOffset || row.value[kReturnAddress] != -8) return generic;
  if (row.rule[kStackPointer] != RegisterRule::kSame) return generic;
  ExpressionValue cfa;
  if (!FitCfa(tables, row, pc, &cfa)) return generic;

  uint64_t fields = 0;
  int from_base_count = 0, saved_count = 0;
  for (unsigned i = 0; i < kCalleeSavedCount; ++i) {
    uint8_t field;
    bool from_base;
    if (!FitSaved(tables, row, kCalleeSaved[i], cfa.base, &field, &from_base)) return generic;
    if (field != Recipe::kNotSaved) {
      ++saved_count;
      from_base_count += from_base ? 1 : 0;
    }
    fields |= static_cast<uint64_t>(field) << (34 + 5 * i);
  }
  RecipeKind kind = cfa.dereferenced ? RecipeKind::kDereferenced : RecipeKind::kPlain;
  if (from_base_count > 0) {
    if (from_base_count != saved_count || !cfa.dereferenced) return generic;
    kind = RecipeKind::kRealigned;
  }
  uint64_t offset = static_cast<uint64_t>(static_cast<int64_t>(cfa.offset) / 8) & ((uint64_t{1} << 22) - 1);
  return Recipe(static_cast<uint64_t>(kind) | static_cast<uint64_t>(cfa.base) << 3 | offset << 7 |
                static_cast<uint64_t>(cfa.added / 8) << 29 | fields);
}

}  // namespace profagent
