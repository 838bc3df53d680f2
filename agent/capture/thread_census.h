// Which threads there are: those that nobody announced, and those that are gone.
//
// Context:   `hook` and `bootstrap`. System calls only, no lock: one thread looks at a time, and who finds it
//            looking goes on.
// New:       a thread that existed before the agent, or that a raw clone made, stands in /proc/self/task and
//            in no slot.
// Dead:      there is no hook at a thread's end that would be safe, complete and invisible. (A key's destructor
//            is one of the application's 1024 and runs before other destructors do their work; a cleanup handler
//            meets two different libgcc's in cancellation; libc's own thread-exit list allocates.) So slots are
//            asked whether their thread still is; the kernel disarms a dead thread's timer, and nothing can
//            fire any more. The number of slots doubles at most before the dead are collected.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/function_ref.h"
#include "agent/capture/thread_slots.h"

namespace profagent {

class ThreadCensus {
 public:
  void Start(ThreadSlots* slots) { slots_ = slots; }
  // In a forked child: nobody is on the way, and nobody looks.
  void Reset();

  // Around pthread_create: a thread on its way through it is there before its slot knows it.
  void ExpectThread() { starting_.fetch_add(1, std::memory_order_seq_cst); }
  void ThreadIsKnown() { starting_.fetch_sub(1, std::memory_order_seq_cst); }

  // Slots became many since the dead were collected.
  bool IsCrowded() const { return slots_->in_use() >= collect_at_.load(std::memory_order_relaxed); }

  // The right to call the two functions below, for as long as it lives. Empty: another thread has it, or this one was
  // interrupted while it had.
  class Turn {
   public:
    ~Turn() {
      if (looking_ != nullptr) looking_->store(0, std::memory_order_release);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    explicit operator bool() const { return looking_ != nullptr; }

   private:
    friend class ThreadCensus;
    explicit Turn(std::atomic<uint32_t>* looking) : looking_(looking) {}
    std::atomic<uint32_t>* looking_;
  };
  Turn TryTakeTurn() {
    return Turn(looking_.exchange(1, std::memory_order_acquire) == 0 ? &looking_ : nullptr);
  }

  // `adopt` gives the thread a slot; false ends the search.
  void ForEachNewThread(const Turn& proof, FunctionRef<bool(uint32_t tid)> adopt);
  // Each slot whose thread is gone goes to `bury`, which releases it; each other one to `visit`.
  void ForEachSlot(const Turn& proof, FunctionRef<void(ThreadSlot*)> bury,
                   FunctionRef<void(ThreadSlot*)> visit);

 private:
  static constexpr uint32_t kFirstCollection = 64;  // slots in use before the dead are looked for

  bool IsKnown(uint32_t tid);
  bool IsGone(const ThreadSlot& slot, SlotUse use);
  bool IsNumberGone(const ThreadSlot& slot);

  ThreadSlots* slots_ = nullptr;
  std::atomic<uint32_t> starting_{0};  // threads between ExpectThread and ThreadIsKnown
  std::atomic<uint32_t> looking_{
      0};  // acquire to take, release to give back: one round sees what the last one did
  std::atomic<uint32_t> collect_at_{kFirstCollection};
};

}  // namespace profagent
