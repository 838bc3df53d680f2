// Call stacks from inside a signal handler or a hook, by the program's own unwind tables.
//
// Context:   Walk and WalkFromHere in `signal` and `hook`; Start in `bootstrap`; the rest in `hook`.
// Promises:  no lock, no allocation, no call into the loader but _dl_find_object, no read that can fault, no
//            system call while the stack lies inside `bounds` and has unwind tables (elsewhere: SafeRead, one
//            for a KiB of stack). At most 1600 bytes of the caller's stack (tests/unit/unwind measures it).
// How:       a pc's rule is decoded once from .eh_frame (quick_recipe.h) and kept in recipe_cache; a warm frame costs one lookup
//            and two loads. The fast walk follows pc, rsp and rbp only; the first frame whose rule needs another
//            register starts the full walk, which follows them all. Code without CFI: frame_pointer.h.
// fork:      cache and modules stay valid in the child, whatever its other threads were doing.
#pragma once

#include <ucontext.h>

#include <span>

#include "agent/base/result.h"
#include "agent/base/signal_safe.h"
#include "agent/base/units.h"
#include "agent/ledger/frame.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/known_calls.h"
#include "agent/unwind/memory_range.h"
#include "agent/unwind/module_map.h"
#include "agent/unwind/recipe_cache.h"
#include "agent/unwind/registers.h"
#include "agent/unwind/stack_memo.h"
#include "agent/unwind/stack_memory.h"
#include "agent/unwind/trail.h"

namespace profagent {

// The part of a thread's stack that is known to be mapped. It may begin anywhere at or below the interrupted
// stack pointer: less than kRedZone below that is never read. {0, 0}: not known.
struct StackBounds {
  uintptr_t low = 0;
  uintptr_t high = 0;
  constexpr bool Holds(uintptr_t address, size_t size) const {
    return MemoryRange{low, high}.Holds(address, size);
  }
};

class Unwinder {
 public:
  // Maps the recipe cache (anonymous, not part of the ledger) and enters the modules that are loaded now, the
  // program first. An error leaves an unwinder whose walks give the leaf only.
  Status Start(Ledger* ledger);
  // Only when no thread can be walking: tests.
  void Stop();

  // A forked child has a new, empty ledger: its modules are entered again, with the ids they had; the recipes
  // stay. To be called after the child's Ledger was made, before its first walk.
  void RestartAfterFork(Ledger* ledger);

  // The stack of the code that a signal interrupted, leaf first, at most frames.size() deep. The leaf is the
  // exact pc, every other frame the last byte of its call. When the stack is deeper, the leaf side is kept,
  // the last frame becomes [truncated], and end is kDepthLimit.
  PROF_SIGNAL_SAFE WalkResult Walk(const ucontext_t& context, StackBounds bounds, std::span<Frame> frames);

  // The stack of the caller of the function that calls this: frame 0 is the call site in that caller.
  // `skip_frames` more are left out (hooks hide themselves). The caller must not be inlined anywhere, nor end in
  // this call (a tail call leaves no frame to hide). No frame is a leaf: each is the last byte of its call.
  // `memo`: where it knows the stack, nothing is walked and the result has no frames.
  PROF_SIGNAL_SAFE WalkResult WalkFromHere(StackBounds bounds, uint32_t skip_frames, std::span<Frame> frames,
                                           StackMemo* memo = nullptr);

  // One frame for the instruction at `address`, whoever stands there.
  Frame FrameAt(CodeAddress address);

  // Around the real dlclose. In between, libraries that could be unmapped are not looked into by any thread
  // (Loss::kLibraryUnloaded; what is cached still serves); afterwards rules of addresses that may be reused are
  // forgotten.
  void BeforeLibraryClose();
  void AfterLibraryClose();

  const RecipeCache& cache() const { return cache_; }
  ModuleMap& modules() { return modules_; }

 private:
  RecipeCache cache_;
  ModuleMap modules_;
  // Mapped by Start: a member would make this library's file larger by its size.
  struct Pools {
    StackWindowPool windows;
    TrailPool trails;
    StackMemoPool memos;
    KnownCalls known_calls;
  };
  Pools* pools_ = nullptr;
};

}  // namespace profagent
