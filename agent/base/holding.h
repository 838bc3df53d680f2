// What a piece of work holds of its process (memory, a descriptor, a file under a temporary name), in case the work is
// given up in its middle and no destructor runs.
//
// Context:   `dump`. A Holding is a base class of what owns such a thing; it enters itself in the Holdings of the work
//            that its thread is doing. In a thread that does no such work (`offline`, tests) it does nothing.
// Invariant: one thread at a time has Holdings, and its holdings live on the stack that it works on, which stays as it
//            is until they are let go.
// Fork:      the child of another thread forgets them; the parent has the descriptors and the file.
#pragma once

namespace profagent {

class Holding {
 protected:
  using LetGo = void (*)(Holding*);
  // `let_go` does what the destructor would have done. It may run in a signal handler's wake: system calls only.
  explicit Holding(LetGo let_go);
  ~Holding();

 public:
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;

 private:
  friend class Holdings;

  LetGo let_go_;
  bool entered_ = false;
  Holding* older_ = nullptr;
  Holding* newer_ = nullptr;
};

class Holdings {
 public:
  // From here on, what this thread makes is entered here. When another piece of work has Holdings, nothing is.
  Holdings();
  ~Holdings();
  Holdings(const Holdings&) = delete;
  Holdings& operator=(const Holdings&) = delete;

  // Newest first, each once: one that fails is not tried again.
  void LetAllGo();

  // In a forked child.
  static void Forget();

 private:
  friend class Holding;

  long thread_;
  Holding* newest_ = nullptr;
};

}  // namespace profagent
