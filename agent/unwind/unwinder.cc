#include "agent/unwind/unwinder.h"

#include "agent/unwind/frame_pointer.h"
#include "agent/unwind/generic_step.h"

namespace profagent {
namespace {

// A caller's frame lies above its callee's, but where code changes stacks (coroutines, Rust's stacker). Such
// steps are believed this often in one walk; a loop in broken tables uses them up soon.
constexpr int kMaxStackChanges = 16;

}  // namespace

// One walk. The fast and the full one share the frames that they have written; what they follow differs.
class Unwinder::Walker {
 public:
  PROF_ALWAYS_INLINE Walker(Unwinder* unwinder, MemoryRange bounds, std::span<Frame> frames)
      : unwinder_(unwinder), memory_(bounds, &unwinder->windows_), frames_(frames) {}

  // Both return false when the end was reached.
  PROF_SIGNAL_SAFE WalkResult Fast(const ucontext_t& context);
  PROF_SIGNAL_SAFE WalkResult Full(Registers* registers, bool interrupted, uint32_t skip);

  bool needs_all_registers() const { return needs_all_registers_; }

 private:
  enum class Step : uint8_t { kCaller, kInterrupted, kEnd };

  PROF_ALWAYS_INLINE RecipeCache::Hit Look(uintptr_t address) {
    RecipeCache::Hit hit = unwinder_->cache_.Find(address);
    if (hit.recipe.kind() != RecipeKind::kNone) [[likely]]
      return hit;
    return Decode(address);
  }
  PROF_SIGNAL_SAFE __attribute__((noinline)) RecipeCache::Hit Decode(uintptr_t address);
  PROF_SIGNAL_SAFE Step Apply(Recipe recipe, uintptr_t address, bool interrupted, Registers* registers);
  PROF_SIGNAL_SAFE Step ApplyRecipe(Recipe recipe, Registers* registers);
  PROF_SIGNAL_SAFE Step ApplyFramePointer(bool interrupted, Registers* registers);
  PROF_SIGNAL_SAFE WalkResult Truncate();
  PROF_ALWAYS_INLINE Step End(WalkEnd end) {
    end_ = end;
    return Step::kEnd;
  }
  PROF_ALWAYS_INLINE Frame FrameOf(uintptr_t address, ModuleId module) const {
    return Frame::Of(module, address - unwinder_->modules_.load_bias(module));
  }

  Unwinder* unwinder_;
  StackMemory memory_;
  std::span<Frame> frames_;
  WalkEnd end_ = WalkEnd::kOutermost;
  bool needs_all_registers_ = false;
  int stack_changes_ = 0;
};

RecipeCache::Hit Unwinder::Walker::Decode(uintptr_t address) {
  RecipeCache& cache = unwinder_->cache_;
  uint32_t generation = cache.generation();
  ModuleMap::Reader reader(&unwinder_->modules_);
  const Module* module = unwinder_->modules_.Find(address);
  // Not cached: a library may be loaded there later, and nobody would tell.
  if (module == nullptr) return {Recipe::Of(RecipeKind::kFramePointer), ModuleId::kNone};
  Recipe recipe = DecodeRecipe(&unwinder_->modules_, *module, address);
  cache.Insert(address, recipe, module->id, generation);
  return {recipe, module->id};
}

WalkResult Unwinder::Walker::Truncate() {
  frames_[frames_.size() - 1] = MakeSynthetic(SyntheticFrame::kTruncated);
  return {static_cast<uint32_t>(frames_.size()), WalkEnd::kDepthLimit};
}

WalkResult Unwinder::Walker::Fast(const ucontext_t& context) {
  auto* gregs = context.uc_mcontext.gregs;
  auto pc = static_cast<uintptr_t>(gregs[REG_RIP]);
  auto sp = static_cast<uintptr_t>(gregs[REG_RSP]);
  auto fp = static_cast<uintptr_t>(gregs[REG_RBP]);
  uint32_t depth = 0;
  uintptr_t address = pc;
  for (;;) {
    auto [recipe, module] = Look(address);
    if (depth == frames_.size()) return Truncate();
    frames_[depth++] = FrameOf(address, module);
    RecipeKind kind = recipe.kind();
    uint8_t base = recipe.base();
    uintptr_t cfa;
    if (kind == RecipeKind::kPlain && base == kStackPointer) [[likely]] {
      cfa = sp + static_cast<uint64_t>(recipe.offset());
    } else if (kind == RecipeKind::kPlain && base == kFramePointer) {
      cfa = fp + static_cast<uint64_t>(recipe.offset());
    } else if (kind == RecipeKind::kOutermost) {
      return {depth, WalkEnd::kOutermost};
    } else {
      needs_all_registers_ = true;
      return {};
    }
    // Anything but a climb is left to the full walk.
    if (cfa <= sp) {
      needs_all_registers_ = true;
      return {};
    }
    if (!memory_.Read(cfa - 8, &pc)) return {depth, WalkEnd::kUnreadable};
    uint8_t saved = recipe.saved(0);
    if (saved != Recipe::kNotSaved && !memory_.Read(cfa - 8 * (saved + uint64_t{1}), &fp)) {
      return {depth, WalkEnd::kUnreadable};
    }
    if (pc == 0) return {depth, WalkEnd::kOutermost};
    sp = cfa;
    address = pc - 1;
  }
}

WalkResult Unwinder::Walker::Full(Registers* registers, bool interrupted, uint32_t skip) {
  uint32_t depth = 0;
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
    uintptr_t sp = registers->sp();
    Step step = Apply(recipe, address, interrupted, registers);
    if (step == Step::kEnd) return {depth, end_};
    interrupted = step == Step::kInterrupted;
    if (registers->pc() == 0 && !interrupted) return {depth, WalkEnd::kOutermost};
    if (!interrupted && registers->sp() <= sp && ++stack_changes_ > kMaxStackChanges) {
      return {depth, WalkEnd::kNoProgress};
    }
  }
}

Unwinder::Walker::Step Unwinder::Walker::Apply(Recipe recipe, uintptr_t address, bool interrupted,
                                               Registers* registers) {
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
  switch (StepByRow(&unwinder_->modules_, &memory_, address, registers)) {
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

Unwinder::Walker::Step Unwinder::Walker::ApplyRecipe(Recipe recipe, Registers* registers) {
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

Unwinder::Walker::Step Unwinder::Walker::ApplyFramePointer(bool interrupted, Registers* registers) {
  switch (StepByFramePointer(&unwinder_->modules_, &memory_, interrupted, registers)) {
    case FramePointerStep::kCaller:
      return Step::kCaller;
    case FramePointerStep::kSignalReturn:
      if (!StepBySigcontext(&memory_, registers)) return End(WalkEnd::kUnreadable);
      return Step::kInterrupted;
    case FramePointerStep::kOutermost:
      return End(WalkEnd::kOutermost);
    case FramePointerStep::kUnreadable:
      return End(WalkEnd::kUnreadable);
    case FramePointerStep::kNothing:
      break;
  }
  return End(WalkEnd::kNoUnwindInfo);
}

Status Unwinder::Start(Ledger* ledger) {
  if (Status status = cache_.Start(); !status) return status;
  Status status = modules_.Start(ledger);
  if (!status) cache_.Stop();
  return status;
}

void Unwinder::Stop() {
  cache_.Stop();
  modules_.Stop();
}

void Unwinder::RestartAfterFork(Ledger* ledger) {
  windows_.Reset();
  modules_.Restart(ledger);
}

namespace {

// What may be read without asking: `bounds` down to the red zone. Where the stack pointer is not in it, nothing.
PROF_ALWAYS_INLINE MemoryRange Readable(StackBounds bounds, uintptr_t sp) {
  if (!bounds.Holds(sp, 0)) return {};
  uintptr_t low = sp - bounds.low > kRedZone ? sp - kRedZone : bounds.low;
  return {low, bounds.high};
}

}  // namespace

WalkResult Unwinder::Walk(const ucontext_t& context, StackBounds bounds, std::span<Frame> frames) {
  if (frames.empty()) return {0, WalkEnd::kDepthLimit};
  auto pc = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  if (!cache_.is_started()) {
    frames[0] = Frame::Of(ModuleId::kNone, pc);
    return {1, WalkEnd::kNoUnwindInfo};
  }
  Walker walker(this, Readable(bounds, static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP])), frames);
  WalkResult result = walker.Fast(context);
  if (!walker.needs_all_registers()) return result;
  Registers registers;
  LoadRegisters(context, &registers);
  return walker.Full(&registers, true, 0);
}

__attribute__((noinline)) WalkResult Unwinder::WalkFromHere(StackBounds bounds, uint32_t skip_frames,
                                                            std::span<Frame> frames) {
  if (frames.empty() || !cache_.is_started()) return {0, WalkEnd::kDepthLimit};
  Registers registers;
  CaptureRegisters(&registers);
  Walker walker(this, Readable(bounds, registers.sp()), frames);
  // This function itself and the one that asks are not part of the answer.
  return walker.Full(&registers, true, skip_frames + 2);
}

void Unwinder::BeforeLibraryClose() { modules_.BeforeClose(); }

void Unwinder::AfterLibraryClose() {
  if (!cache_.is_started()) return;
  cache_.Wipe();
  modules_.AfterClose();
}

}  // namespace profagent
