// What the agent knows of each thread, where a signal handler can find it without thread-local storage.
//
// Context:   Start in `bootstrap`; Acquire, Release and the walk over all slots in `hook`; Find in `signal`.
// Invariant: a slot's memory stays mapped for the life of the process, so a pointer to one never dangles. A
//            slot that is given back gets a new generation; a signal that names the old one is recognised as
//            stale, not mistaken for the next owner's.
// Ticks:     a timer's si_value is cookie | generation | index. The cookie is random for the process: a value
//            that carries it is ours even when it is stale, and must never reach the application, whose
//            default action would be to die of it.
// When full: Acquire returns nullptr; the thread runs untimed and is counted (Loss::kThreadNotTimed).
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

inline constexpr int32_t kNoTimer = -1;
inline constexpr int32_t kNoDescriptor = -1;

enum class SlotUse : uint32_t {
  kFree,
  kStarting,  // handed to pthread_create; its thread has not begun
  kTimed,     // a timer or perf event runs for `tid`
  kUntimed,   // the thread is known (name, stack) but the process timer serves it, or nothing does
};

struct alignas(64) ThreadSlot {
  std::atomic<SlotUse> use;
  std::atomic<uint32_t> generation;  // only the low 15 bits travel
  uint32_t index;
  std::atomic<uint32_t> next_free;  // index plus one
  std::atomic<uint32_t> tid;
  uint64_t birth;  // of two slots with one tid the younger is the living thread's

  std::atomic<int32_t> timer_id;  // the kernel's; kNoTimer
  std::atomic<int32_t> perf_fd;   // kNoDescriptor
  uint64_t perf_id;               // PERF_EVENT_IOC_ID: what the descriptor must still answer to be ours
  bool perf_user_time_only;       // the event does not see the thread's time in the kernel
  std::atomic<bool> perf_first;   // the first expiry is still to come

  StackBounds bounds;  // {0, 0}: not known
  // The thread's name as the kernel has it, up to 15 bytes and zeros; its TextId, 0 until it is in the ledger (CpuHandler::NameOf).
  static constexpr size_t kNameWords = 2;
  std::atomic<uint64_t> name_words[kNameWords];
  std::atomic<RecordId> name;
  ThreadRecord* record;  // in the ledger, kept for the slot's next thread; nullptr when that is full
  uintptr_t pthread;     // pthread_self(), for pthread_setname_np by another thread

  // The account that settles what the timer still owes when the thread ends (agent/capture/cpu_debts.h).
  std::atomic<bool> armed;                // the timer runs
  std::atomic<uint64_t> first_expiry_ns;  // on the thread's CPU clock
  std::atomic<uint64_t> ticks;            // counted so far
  std::atomic<uint64_t> prepaid;          // of these, counted before their signal came
  std::atomic<RecordId> last_stack;       // of the newest sample

  std::atomic<uint32_t> in_handler;

  void* spare_stack;  // agent/interpose/alternate_stack_hook.cc
  size_t spare_stack_size;
  // Where the alternate stack begins that the application set, if the kernel has it; 0: none.
  std::atomic<uintptr_t> alternate_stack;

  std::atomic<bool> timed_outside;  // before the process entered a sandbox, should that be refused

  void* start_routine;

  // The thread's tid while it wants CPU signals of the application's (agent/capture/foreign_signals.h); else 0.
  std::atomic<uint32_t> taker;
};

class ThreadSlots {
 public:
  static constexpr uint32_t kMaxSlots = 1 << 16;

  // Address space for all slots; pages are taken as threads come. Under RLIMIT_AS fewer. False: not even 64.
  bool Start();
  // In a forked child: every slot is free, the cookie stays.
  void Reset();

  ThreadSlot* Acquire();
  // Only when no signal that names the slot can come any more, or when it will be seen as stale.
  void Release(ThreadSlot* slot);

  // Whose thread the slot is.
  void SetNumber(ThreadSlot* slot, uint32_t tid);
  // The slot in use that was given this number last. nullptr: none is known; another number may have taken the place.
  ThreadSlot* NewestOf(uint32_t tid);

  // The value for a timer of this slot.
  uint64_t SignalValue(const ThreadSlot& slot) const;
  uint64_t ProcessTimerValue() const { return cookie_ | kProcessIndex; }
  // Of no timer: for a signal that one thread of ours sends another (agent/capture/foreign_signals.h).
  uint64_t OfferValue() const { return cookie_ | kOfferIndex; }

  enum class Meaning : uint8_t { kForeign, kStale, kProcess, kThread };
  struct Found {
    Meaning meaning;
    ThreadSlot* slot;
  };
  PROF_SIGNAL_SAFE Found Find(uint64_t signal_value);

  ThreadSlot* At(uint32_t index) { return index < capacity_ ? &slots_[index] : nullptr; }
  // The calling thread's; nullptr: it has none, or was found and does not know it.
  PROF_SIGNAL_SAFE ThreadSlot* OfThisThread();
  // Slots that were ever used stand below.
  uint32_t limit() const { return limit_.load(std::memory_order_acquire); }
  uint32_t in_use() const { return in_use_.load(std::memory_order_relaxed); }
  uint64_t births() const { return births_.load(std::memory_order_relaxed); }  // slots ever handed out

 private:
  static constexpr uint64_t kProcessIndex = 0xffffffff;
  static constexpr uint64_t kOfferIndex = 0xfffffffe;

  ThreadSlot* slots_ = nullptr;
  std::atomic<uint32_t>* by_number_ = nullptr;  // behind the slots, by tid modulo capacity_: index plus one
  uint32_t capacity_ = 0;
  uint64_t cookie_ = 0;  // in the upper 32 bits, never 0
  std::atomic<uint32_t> limit_{0};
  std::atomic<uint32_t> in_use_{0};
  std::atomic<uint64_t> births_{0};
  std::atomic<uint64_t> free_head_{0};  // tag << 32 | index plus one: the tag defeats ABA
};

}  // namespace profagent
