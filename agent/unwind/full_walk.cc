// The walk that follows all registers: recipes on any of them, full rows, signal frames, code without CFI.
#include "agent/unwind/frame_pointer.h"
#include "agent/unwind/generic_step.h"
#include "agent/unwind/walker.h"

namespace profagent {
namespace {

// A caller's frame lies above its callee's, but where code changes stacks (coroutines, Rust's stacker). Such
// steps are believed this often in one walk; a loop in broken tables uses them up soon.
constexpr int kMaxStackChanges = 16;

// Nobody's code lies below: a caller there is a number that a wrong step took for one.
constexpr uintptr_t kLowestCode = 4096;

}  // namespace

RecipeCache::Hit Walker::Decode(uintptr_t address) {
  uint32_t generation = cache_->generation();
  ModuleMap::Reader reader(modules_);
  const Module* module = modules_->Find(address);
  // Not cached: a library may be loaded there later, and nobody would tell.
  if (module == nullptr) return {Recipe::Of(RecipeKind::kFramePointer), ModuleId::kNone};
  Recipe recipe = DecodeRecipe(modules_, *module, address);
  cache_->Insert(address, recipe, module->id, generation);
  return {recipe, module->id};
}

// `depth`: frames that are written; with none, `registers` are those at the interrupted instruction.
WalkResult Walker::FollowAll(Registers* registers, uint32_t depth, uint32_t skip, bool doubt_leaf) {
  bool interrupted = depth == 0, may_throw = false, first = interrupted;
  for (;;) {
    uintptr_t address = registers->pc() - (interrupted ? 0 : 1);
    auto [recipe, module] = Look(address);
    if (skip > 0) {
      --skip;
    } else if (depth == frames_.size()) {
      return Truncate();
    } else {
      frames_[depth++] = FrameOf(address, module);
    }
    if (recipe.kind() == RecipeKind::kFramePointer && !interrupted && IsFunctionStart(registers->pc())) {
      // Nobody returns to a function's first byte: makecontext and its like put it under a coroutine's first frame.
      if (depth > 0) frames_[depth - 1] = FrameOf(registers->pc(), module);
      return {depth, WalkEnd::kOutermost};
    }
    uintptr_t sp = registers->sp();
    bool by_instruction =
        doubt_leaf && StepByInstruction(modules_, &memory_, registers) == FramePointerStep::kCaller;
    doubt_leaf = false;
    Step step = by_instruction ? Step::kCaller : Apply(recipe, address, interrupted, registers);
    if (step == Step::kEnd) return {depth, end_};
    // A throw that is about to go on at a landing pad has put that in place of a return address, its own or that of a frame
    // that it takes off. It is exact: what stands in front of it may be another function, or have another rule. The return from
    // a signal handler is no throw.
    may_throw |= first && recipe.kind() == RecipeKind::kGeneric && step == Step::kCaller;
    first = false;
    bool lands = may_throw && step == Step::kCaller && FollowsNoCall(modules_, registers->pc());
    interrupted = step == Step::kInterrupted || lands;
    if (registers->pc() == 0 && !interrupted) return {depth, WalkEnd::kOutermost};
    if (registers->pc() < kLowestCode && !interrupted) return {depth, WalkEnd::kNoUnwindInfo};
    if (!interrupted && registers->sp() <= sp && ++stack_changes_ > kMaxStackChanges) {
      return {depth, WalkEnd::kNoProgress};
    }
  }
}

// Hand-written tables err, most of all about epilogues: libcrypto's for the return instructions of x25519 add where they should
// take away. Where the step from the leaf comes to no code at all, the instruction is asked. Changes `leaf`.
bool Walker::LeadsNowhere(Registers* leaf) {
  uintptr_t address = leaf->pc();
  Recipe recipe = Look(address).recipe;
  if (recipe.kind() > RecipeKind::kRealigned || Apply(recipe, address, true, leaf) != Step::kCaller)
    return false;
  ModuleMap::Reader reader(modules_);
  return leaf->pc() != 0 && modules_->Find(leaf->pc() - 1) == nullptr;
}

WalkResult Walker::Full(const ucontext_t& context) {
  Registers registers;
  LoadRegisters(context, &registers);
  uint32_t depth = LeaveBareCode(context, &registers);
  if (ended_) return {depth, end_};
  bool doubt_leaf = depth == 0 && LeadsNowhere(&registers);
  if (depth == 0) LoadRegisters(context, &registers);
  return FollowAll(&registers, depth, 0, doubt_leaf);
}

WalkResult Walker::FullFromHere(uint32_t skip) {
  Registers registers;
  CaptureRegisters(&registers);
  return FollowAll(&registers, 0, skip + 1, false);  // this function's frame, too
}

bool Walker::IsFunctionStart(uintptr_t pc) {
  ModuleMap::Reader reader(modules_);
  const Module* module = modules_->Find(pc);
  if (module == nullptr) return false;
  const EhFrameTables& tables = modules_->TablesOf(*module);
  FrameEntry entry;
  return !tables.segment.empty() && FindFrameEntry(tables, modules_->IndexOf(*module, tables), pc, &entry) &&
         entry.start == pc;
}

Walker::Step Walker::Apply(Recipe recipe, uintptr_t address, bool interrupted, Registers* registers) {
  switch (recipe.kind()) {
    case RecipeKind::kPlain:
    case RecipeKind::kDereferenced:
    case RecipeKind::kRealigned:
      return ApplyRecipe(recipe, registers);
    case RecipeKind::kOutermost:
      return End(WalkEnd::kOutermost);
    case RecipeKind::kNone:
    case RecipeKind::kFramePointer:
      return ApplyFramePointer(interrupted, registers);
    case RecipeKind::kGeneric:
      break;
  }
  switch (StepByRow(modules_, &memory_, address, registers)) {
    case GenericStep::kCaller:
      return Step::kCaller;
    case GenericStep::kInterrupted:
      return Step::kInterrupted;
    case GenericStep::kOutermost:
      return End(WalkEnd::kOutermost);
    case GenericStep::kUnreadable:
      return End(WalkEnd::kUnreadable);
    case GenericStep::kBroken:
      break;
  }
  return ApplyFramePointer(interrupted, registers);
}

Walker::Step Walker::ApplyRecipe(Recipe recipe, Registers* registers) {
  uint64_t base = registers->value[recipe.base()];
  uint64_t cfa = base + static_cast<uint64_t>(recipe.offset());
  if (recipe.kind() != RecipeKind::kPlain) {
    if (!memory_.Read(cfa, &cfa)) return End(WalkEnd::kUnreadable);
    cfa += recipe.added();
  }
  uint64_t pc;
  if (!memory_.Read(cfa - 8, &pc)) return End(WalkEnd::kUnreadable);
  uint64_t origin = recipe.kind() == RecipeKind::kRealigned ? base : cfa - 8;
  for (unsigned i = 0; i < kCalleeSavedCount; ++i) {
    uint8_t saved = recipe.saved(i);
    if (saved == Recipe::kNotSaved) continue;
    if (!memory_.Read(origin - uint64_t{8} * saved, &registers->value[kCalleeSaved[i]])) {
      return End(WalkEnd::kUnreadable);
    }
  }
  registers->value[kStackPointer] = cfa;
  registers->value[kReturnAddress] = pc;
  return Step::kCaller;
}

Walker::Step Walker::ApplyFramePointer(bool interrupted, Registers* registers) {
  switch (StepByFramePointer(modules_, &memory_, known_calls_, interrupted, registers)) {
    case FramePointerStep::kCaller:
    case FramePointerStep::kLeafCaller:
      return Step::kCaller;
    case FramePointerStep::kSignalReturn:
      if (!StepBySigcontext(&memory_, registers)) return End(WalkEnd::kUnreadable);
      return Step::kInterrupted;
    case FramePointerStep::kOutermost:
    case FramePointerStep::kGoroutineEnd:
      return End(WalkEnd::kOutermost);
    case FramePointerStep::kUnreadable:
      return End(WalkEnd::kUnreadable);
    case FramePointerStep::kNothing:
      break;
  }
  return End(WalkEnd::kNoUnwindInfo);
}

}  // namespace profagent
