// One walk over one stack; the two ways of it share the frames that they write.
//
// Context: `signal`, `hook`. Internal to agent/unwind: Unwinder makes one on the handler's stack for each walk.
#pragma once

#include <ucontext.h>

#include <span>

#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/unwind/frame_pointer.h"
#include "agent/unwind/memory_range.h"
#include "agent/unwind/module_map.h"
#include "agent/unwind/recipe_cache.h"
#include "agent/unwind/registers.h"
#include "agent/unwind/stack_memo.h"
#include "agent/unwind/stack_memory.h"
#include "agent/unwind/trail.h"

namespace profagent {

class CallPlaces;

// What a search for the caller of code without unwind information has found.
struct BareFrame {
  FramePosition caller;
  uintptr_t called_at = 0;  // where the return address of its callee stands, if that was searched for, too
  uintptr_t unknown = 0;    // code whose recipe the search lacked
  uintptr_t came_to = 0;    // the last return address of a walk that did not lead out
};

class Walker {
 public:
  PROF_ALWAYS_INLINE Walker(RecipeCache* cache, ModuleMap* modules, StackWindowPool* windows,
                            TrailPool* trails, KnownCalls* known_calls, MemoryRange bounds,
                            std::span<Frame> frames)
      : cache_(cache),
        modules_(modules),
        trails_(trails),
        known_calls_(known_calls),
        stack_(bounds.limit),
        memory_(bounds, windows),
        frames_(frames) {}

  // Follows pc, rsp and rbp only (fast_walk.cc). When a frame needs more than that, needs_all_registers() is true
  // afterwards and the result means nothing: the full walk has to start over. `interrupted`: pc is an instruction that
  // was about to run, not one behind a call. `memo`: wants the steps, or nullptr.
  PROF_SIGNAL_SAFE WalkResult Fast(FramePosition position, bool interrupted, StackMemo* memo);
  // Steps over frames of our own, from an instruction that is running. False: only the full walk can.
  PROF_SIGNAL_SAFE bool LeaveOut(uint32_t count, FramePosition* position, StackMemo* memo);
  bool needs_all_registers() const { return needs_all_registers_; }

  // Follow all registers (full_walk.cc): those of `context`, or those of the caller of FullFromHere. The room for them
  // is in their own frames, not below the fast walk's, which may have to decode.
  PROF_SIGNAL_SAFE __attribute__((noinline)) WalkResult Full(const ucontext_t& context);
  PROF_SIGNAL_SAFE __attribute__((noinline)) WalkResult FullFromHere(uint32_t skip);

 private:
  enum class Step : uint8_t { kCaller, kInterrupted, kEnd };

  PROF_ALWAYS_INLINE RecipeCache::Hit Look(uintptr_t address) {
    RecipeCache::Hit hit = cache_->Find(address);
    if (hit.recipe.kind() != RecipeKind::kNone) [[likely]]
      return hit;
    return Decode(address);
  }
  PROF_ALWAYS_INLINE WalkResult FollowAll(Registers* registers, uint32_t depth, uint32_t skip,
                                          bool doubt_leaf);
  PROF_ALWAYS_INLINE bool LeadsNowhere(Registers* leaf);
  PROF_SIGNAL_SAFE __attribute__((noinline)) RecipeCache::Hit Decode(uintptr_t address);
  PROF_SIGNAL_SAFE __attribute__((noinline)) bool IsFunctionStart(uintptr_t pc);
  PROF_SIGNAL_SAFE Step Apply(Recipe recipe, uintptr_t address, bool interrupted, Registers* registers);
  PROF_SIGNAL_SAFE Step ApplyRecipe(Recipe recipe, Registers* registers);
  PROF_SIGNAL_SAFE Step ApplyFramePointer(bool interrupted, Registers* registers);
  // Code without CFI at the leaf (search_walk.cc).
  PROF_SIGNAL_SAFE __attribute__((noinline)) uint32_t LeaveBareCode(const ucontext_t& context,
                                                                    Registers* registers);
  PROF_SIGNAL_SAFE __attribute__((noinline)) bool IsDoubtful(const FramePosition& callee,
                                                             const FramePosition& caller);
  PROF_SIGNAL_SAFE __attribute__((noinline)) bool Search(const ucontext_t& context,
                                                         const FramePosition& callee, bool by_any_call,
                                                         BareFrame* bare);
  PROF_SIGNAL_SAFE __attribute__((noinline)) void AddPlaces(const FramePosition& callee, uint32_t from,
                                                            uint32_t reach, uint32_t by_pointer,
                                                            bool by_chain, CallPlaces* places);
  PROF_SIGNAL_SAFE __attribute__((noinline)) void AddPlacesAtRegisters(const ucontext_t& context,
                                                                       const FramePosition& callee,
                                                                       bool by_chain, CallPlaces* places);
  PROF_SIGNAL_SAFE __attribute__((noinline)) bool LeadsOut(const ucontext_t& context,
                                                           const FramePosition& caller, BareFrame* bare);
  PROF_SIGNAL_SAFE __attribute__((noinline)) bool GoesAstray(const ucontext_t& context,
                                                             const FramePosition& caller, BareFrame* bare);
  PROF_ALWAYS_INLINE bool LeadsOutWithSaved(const ucontext_t& context, uintptr_t at, uintptr_t lowest,
                                            FramePosition* caller, BareFrame* bare);
  PROF_SIGNAL_SAFE __attribute__((noinline)) uintptr_t StartOfBareCode(uintptr_t pc);
  PROF_SIGNAL_SAFE bool IsLoadedCode(uintptr_t address);
  PROF_SIGNAL_SAFE bool LeadsToMadeCode(uintptr_t word, uintptr_t pc);
  PROF_SIGNAL_SAFE WalkResult Truncate();
  PROF_ALWAYS_INLINE WalkResult GiveUp() {
    needs_all_registers_ = true;
    return {};
  }
  PROF_ALWAYS_INLINE Step End(WalkEnd end) {
    end_ = end;
    return Step::kEnd;
  }
  PROF_ALWAYS_INLINE Frame FrameOf(uintptr_t address, ModuleId module) const {
    return Frame::Of(module, address - modules_->load_bias(module));
  }

  RecipeCache* cache_;
  ModuleMap* modules_;
  TrailPool* trails_;
  KnownCalls* known_calls_;
  uintptr_t stack_;  // what the trail is found by: the stack's upper bound, 0: not known
  StackMemory memory_;
  std::span<Frame> frames_;
  WalkEnd end_ = WalkEnd::kOutermost;
  bool needs_all_registers_ = false;
  bool ended_ = false;  // LeaveBareCode has come to end_
  int stack_changes_ = 0;
};

}  // namespace profagent
