// The walk that nearly every sample takes: pc, rsp and rbp, a cached recipe a frame, and the trail.
#include "agent/unwind/walker.h"

namespace profagent {

WalkResult Walker::Truncate() {
  frames_[frames_.size() - 1] = MakeSynthetic(SyntheticFrame::kTruncated);
  return {static_cast<uint32_t>(frames_.size()), WalkEnd::kDepthLimit};
}

bool Walker::LeaveOut(uint32_t count, FramePosition* position, StackMemo* memo) {
  auto [pc, sp, fp] = *position;
  uintptr_t address = pc;
  for (; count > 0; --count, address = pc - 1) {
    Recipe recipe = Look(address).recipe;
    uint8_t base = recipe.base(), saved = recipe.saved(0);
    if (recipe.kind() != RecipeKind::kPlain || (base != kStackPointer && base != kFramePointer)) return false;
    if (memo != nullptr) memo->Add({pc, sp, fp}, saved, base == kFramePointer);
    uintptr_t cfa = (base == kStackPointer ? sp : fp) + static_cast<uint64_t>(recipe.offset());
    if (cfa <= sp || !memory_.Read(cfa - 8, &pc)) return false;
    if (saved != Recipe::kNotSaved && !memory_.Read(cfa - 8 - uint64_t{8} * saved, &fp)) return false;
    sp = cfa;
  }
  *position = {pc, sp, fp};
  return true;
}

WalkResult Walker::Fast(FramePosition position, bool interrupted, StackMemo* memo) {
  TrailWriter trail(trails_, stack_, cache_->generation());
  auto [pc, sp, fp] = position;
  // An interrupted leaf does not come on the trail: its pc is exact, and the next sample's is another.
  const uint32_t off_trail = interrupted ? 1 : 0;
  uint32_t depth = 0;
  uintptr_t address = interrupted ? pc : pc - 1;
  for (;; address = pc - 1) {
    auto [recipe, module] = Look(address);
    if (depth == frames_.size()) return Truncate();
    frames_[depth++] = FrameOf(address, module);

    RecipeKind kind = recipe.kind();
    if (kind == RecipeKind::kOutermost) {
      if (memo != nullptr) trail.GiveTo(memo, depth - 1, {pc, sp, fp});
      return {depth, WalkEnd::kOutermost};
    }
    if (kind > RecipeKind::kRealigned) return GiveUp();
    uint8_t base_register = recipe.base();
    if (base_register != kStackPointer && base_register != kFramePointer) return GiveUp();
    uintptr_t base = base_register == kStackPointer ? sp : fp;
    uintptr_t cfa = base + static_cast<uint64_t>(recipe.offset());
    uintptr_t origin = cfa - 8;  // what saved registers are counted from
    uint8_t saved = recipe.saved(0);
    uint8_t trail_saved = saved;
    if (kind != RecipeKind::kPlain) [[unlikely]] {
      if (!memory_.Read(cfa, &cfa)) return {depth, WalkEnd::kUnreadable};
      cfa += recipe.added();
      origin = kind == RecipeKind::kRealigned ? base : cfa - 8;
      trail_saved = TrailEntry::kNotOnTrail;
    }
    if (cfa <= sp) return GiveUp();  // another stack, or nonsense: the full walk knows what to think of it
    uintptr_t caller_pc, caller_fp = fp;
    if (!memory_.Read(cfa - 8, &caller_pc)) return {depth, WalkEnd::kUnreadable};
    if (saved != Recipe::kNotSaved && !memory_.Read(origin - uint64_t{8} * saved, &caller_fp)) {
      return {depth, WalkEnd::kUnreadable};
    }
    if (depth > off_trail) {
      trail.Add({.sp = sp,
                 .fp = fp,
                 .pc = pc,
                 .uses_fp = base_register == kFramePointer,
                 .fp_saved = trail_saved,
                 .frame = frames_[depth - 1]});
    }
    pc = caller_pc;
    sp = cfa;
    fp = caller_fp;
    if (pc == 0) {
      if (memo != nullptr) trail.GiveTo(memo, depth, {pc, sp, fp});
      return {depth, WalkEnd::kOutermost};
    }

    const TrailEntry* met = trail.Meet(pc, sp, fp);
    if (met == nullptr) continue;
    const TrailEntry* at = met;
    for (;; --at) {  // pc, sp, fp are those of *at, whose frame is not written yet
      if (at == trail.outermost()) {
        trail.Finish();
        break;
      }
      if (at->fp_saved == TrailEntry::kNotOnTrail) {
        trail.Part(met, at + 1);
        break;
      }
      if (depth == frames_.size()) return Truncate();
      frames_[depth++] = at->frame;
      const TrailEntry& next = at[-1];
      fp = at->fp;
      if (!memory_.Read(next.sp - 8, &pc)) return {depth, WalkEnd::kUnreadable};
      if (at->fp_saved != Recipe::kNotSaved &&
          !memory_.Read(next.sp - 8 * (at->fp_saved + uint64_t{1}), &fp)) {
        return {depth, WalkEnd::kUnreadable};
      }
      sp = next.sp;
      if (pc != next.pc || fp != next.fp) {
        trail.Part(met, at);
        if (pc == 0) return {depth, WalkEnd::kOutermost};
        break;
      }
    }
  }
}

}  // namespace profagent
