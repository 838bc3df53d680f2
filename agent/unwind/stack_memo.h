// Stacks that were walked before, with what the hook made of them: the second walk of the same stack only sees that it is
// the same.
//
// Context: `hook`, which may be a handler of the application. One StackMemo a walk; the pool is the unwinder's.
// Why:     a hook that records every call (MEMPROFILERATE=1, a busy lock) meets few different stacks again and again. In
//          redis-server walking and interning them was 19 of the 30 % of its time that the hooks took; with memos they
//          take 40 % less.
// Exact:   a walk is a function of where it begins, of the words that it reads, and of the recipes. The memo holds the first and
//          every word: return addresses all of them, saved frame pointers where a CFA depends on them. When all are what they
//          were, so is the stack, whatever was written in between. Another generation (dlclose) or another stack is
//          another memo. Only walks that the fast walk made from beginning to end inside the thread's bounds are kept. Two
//          hooks never share one, whatever their hints: where they walk from is among the words.
// Sharing: found by the stack pointer and a number of the hook's own (`hint`), in sets of four. Who finds his memo taken (by a
//          signal handler's hook, another thread of the same set) does without.
// fork:    the child's pool is wiped, maybe in the middle of a walk: nothing in here relies on what it read before.
// Memory:  0.8 MiB reserved, touched a page for each few different stacks: not for processes that sample little.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/unwind/recipe.h"
#include "agent/unwind/registers.h"

namespace profagent {

// A state of the walk, and what the next walk must find to come to the same.
struct MemoStep {
  uintptr_t pc;      // on the stack below sp
  uintptr_t fp;      // likewise at fp_at
  uint32_t sp;       // words above the first step's
  uint8_t fp_at;     // words below sp; 0: not compared, no CFA depends on it
  uint8_t fp_saved;  // of the rule that holds here, as in a recipe
  bool uses_fp;      // the CFA of that rule does
};

struct StackMemoEntry {
  static constexpr uint32_t kMaxSteps = 64;

  std::atomic<bool> taken{false};  // acquire/release: everything below
  bool compares_fp = false;        // of the first step
  uint32_t generation = 0;         // of the recipe cache
  uint32_t count = 0;              // of steps; 0: nothing is known
  uintptr_t stack = 0;             // its upper bound
  uintptr_t sp = 0;                // where the walk began
  uint64_t hint = 0;
  uint64_t known = 0;  // what the hook wants to be told
  MemoStep steps[kMaxSteps] = {};
};

class StackMemoPool {
 public:
  static constexpr uint32_t kSets = 128;
  static constexpr uint32_t kWays = 4;

  struct alignas(64) Set {
    std::atomic<uint64_t> tags[kWays];
    // The tag that was last looked for in vain: when it comes again, it gets a place.
    std::atomic<uint64_t> asked;
    std::atomic<uint32_t> next;  // the way that is given up when all are in use
  };

  PROF_ALWAYS_INLINE Set& SetOf(uint64_t tag) { return sets_[tag % kSets]; }
  PROF_ALWAYS_INLINE StackMemoEntry& EntryOf(const Set& set, uint32_t way) {
    return entries_[static_cast<uint32_t>(&set - sets_) * kWays + way];
  }

 private:
  Set sets_[kSets];
  StackMemoEntry entries_[kSets * kWays];
};

class StackMemo {
 public:
  // `hint`: what tells stacks apart that begin at the same place, such as the size of an allocation.
  explicit StackMemo(uint64_t hint) : hint_(hint) {}
  ~StackMemo() { Release(0); }
  StackMemo(const StackMemo&) = delete;
  StackMemo& operator=(const StackMemo&) = delete;

  // What Remember was given when this stack was last walked; 0: it was not, or that was forgotten.
  uint64_t known() const { return known_; }
  // After a walk that did not know: what the next one is to be told.
  void Remember(uint64_t known) { Release(complete_ ? known : 0); }

 private:
  friend class TrailWriter;
  friend class Unwinder;
  friend class Walker;

  // True: known() says it. False: a walk follows, which adds its steps from `here` on.
  PROF_SIGNAL_SAFE bool Recall(StackMemoPool* pool, const FramePosition& here, uintptr_t stack,
                               uint32_t generation);
  PROF_SIGNAL_SAFE void Add(const FramePosition& state, uint8_t fp_saved, bool uses_fp);
  // The outermost state was added.
  PROF_SIGNAL_SAFE void Complete();
  PROF_SIGNAL_SAFE void Release(uint64_t known);

  uint64_t hint_;
  uint64_t known_ = 0;
  uint64_t tag_ = 0;
  StackMemoEntry* entry_ = nullptr;  // taken, being filled
  std::atomic<uint64_t>* place_ = nullptr;
  bool complete_ = false;
};

}  // namespace profagent
