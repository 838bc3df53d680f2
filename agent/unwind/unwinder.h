// Call stacks from inside a signal handler or a hook, by the program's own unwind tables.
//
// Context:   Walk in `signal` and `hook`; Start in `bootstrap`; OnLibraryClosed in `hook`.
// Promises:  no lock, no allocation, no call into the loader but _dl_find_object, no read that can fault, no
// system
//            call while the stack lies inside `bounds` (outside: SafeRead, one system call a few KiB of
//            stack). At most 1.5 KiB of the caller's stack (tests/unit/unwind measures it).
// How:       a pc's rule is decoded once from .eh_frame and kept in recipe_cache; a warm frame costs one
// lookup and
//            two loads. Code without CFI is walked by frame pointer.
#pragma once

#include <ucontext.h>

#include <span>

#include "agent/base/result.h"
#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/ledger/ledger.h"

namespace profagent {

// The part of a thread's stack that is known to be mapped, from the interrupted stack pointer up. {0, 0}: not
// known.
struct StackBounds {
  uintptr_t low = 0;
  uintptr_t high = 0;
  constexpr bool Holds(uintptr_t address, size_t size) const {
    return address >= low && address <= high && high - address >= size;  // cannot overflow near 2^64
  }
};

class Unwinder {
 public:
  // Maps the recipe cache (anonymous, not part of the ledger) and enters the modules that are loaded now.
  Status Start(Ledger* ledger);

  // A forked child has a new, empty ledger: its modules are entered again, the recipes stay.
  void RestartAfterFork(Ledger* ledger);

  // The stack of the code that a signal interrupted, leaf first, at most frames.size() deep. The leaf is the
  // exact pc, every other frame the last byte of its call. When the stack is deeper, the leaf side is kept,
  // the last frame becomes [truncated], and end is kDepthLimit.
  PROF_SIGNAL_SAFE WalkResult Walk(const ucontext_t& context, StackBounds bounds, std::span<Frame> frames);

  // The stack of the caller of the function that calls this: frame 0 is the call site in that caller.
  // `skip_frames` more are left out (hooks hide themselves).
  PROF_SIGNAL_SAFE WalkResult WalkFromHere(StackBounds bounds, uint32_t skip_frames, std::span<Frame> frames);

  // dlclose is about to return: cached rules of addresses that may be reused are dropped.
  void OnLibraryClosed();
};

}  // namespace profagent
