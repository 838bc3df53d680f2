// Takes hooks that no profile needs out of the program's way: what it calls by their names goes straight to the functions behind
// them, without even the jump that a hook is.
//
// Context:   `bootstrap`, in the constructor. Two system calls for the names and two for an object that was bound before.
// Names:     our symbols of these hooks lose their values, by which the loader takes a definition for none: whatever it binds from
//            then on (a first call, a later dlopen, dlsym) is bound as if we had never had the name.
// By value:  what is bound already (-z now, constructors that ran before ours) keeps addresses in slots. Those that hold a hook's
//            get the one that the hook jumps to.
// For ever:  a call that went past us once always will. A rate that somebody sets later would need the slots back
//            (RedirectSlotsEverywhere).
// Not seen:  addresses that were copied before. Such a call comes by the hook, which jumps on as ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace profagent {

struct IdleHook {
  uintptr_t hook;
  uintptr_t original;  // 0: this libc lacks the function
};

class IdleHooks {
 public:
  template <class Hook, class Original>
  void Add(Hook* hook, Original* original) {
    if (hook == nullptr || count_ == kMost) return;  // one that is too many stays in the way
    hooks_[count_++] = {reinterpret_cast<uintptr_t>(hook), reinterpret_cast<uintptr_t>(original)};
  }
  std::span<const IdleHook> all() const { return {hooks_, count_}; }

  static constexpr size_t kMost = 64;

 private:
  IdleHook hooks_[kMost];
  size_t count_ = 0;
};

// Where memory cannot be made writable, fewer of them, or none, are taken out of the way.
void TakeOutOfTheWay(const IdleHooks& idle);

}  // namespace profagent
