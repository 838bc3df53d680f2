// What a new thread is told on its way from pthread_create to its start routine.
//
// Context:   Start in `bootstrap`; Take in the creator, Give in the new thread (or in the creator, when there is none
//            after all): `hook`. No lock; nothing is allocated from the application's heap.
// When full: Take returns nullptr, and the thread starts without us: it is not timed and the bounds of its stack are not
//            known. That takes kCount threads that were created and did not run yet.
// fork:      a child's pages are its own; what threads of the parent held is lost there, at most all of it.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"
#include "agent/capture/thread_slots.h"

namespace profagent {

struct ThreadStart {
  void* routine;
  void* argument;
  size_t stack_size;
  ThreadSlot* slot;                 // nullptr: no CPU profile
  bool blocks_signal;               // the mask that it begins with holds the CPU signal, to the application
  std::atomic<uint32_t> next_free;  // index plus one
};

class ThreadStarts {
 public:
  static constexpr uint32_t kCount = 1 << 15;

  void Start() {
    long memory = MapSparse(kCount * sizeof(ThreadStart));
    if (SyscallError(memory) == 0)
      starts_.store(reinterpret_cast<ThreadStart*>(memory), std::memory_order_release);
  }

  ThreadStart* Take() {
    ThreadStart* starts = starts_.load(std::memory_order_acquire);
    if (starts == nullptr) return nullptr;
    uint64_t head = free_.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(head) != 0) {
      ThreadStart* start = &starts[static_cast<uint32_t>(head) - 1];
      uint64_t next = ((head >> 32) + 1) << 32 | start->next_free.load(std::memory_order_relaxed);
      if (free_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire))
        return start;
    }
    // Memory that was never used comes last: few pages are ever touched.
    if (used_.load(std::memory_order_relaxed) >= kCount) return nullptr;
    uint32_t index = used_.fetch_add(1, std::memory_order_relaxed);
    return index < kCount ? &starts[index] : nullptr;
  }

  void Give(ThreadStart* start) {
    auto index = static_cast<uint32_t>(start - starts_.load(std::memory_order_relaxed));
    uint64_t head = free_.load(std::memory_order_relaxed);
    uint64_t next = 0;
    do {
      start->next_free.store(static_cast<uint32_t>(head), std::memory_order_relaxed);
      next = ((head >> 32) + 1) << 32 | (index + 1);
    } while (!free_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_relaxed));
  }

 private:
  std::atomic<ThreadStart*> starts_{nullptr};
  std::atomic<uint32_t> used_{0};
  std::atomic<uint64_t> free_{0};  // tag << 32 | index plus one: the tag defeats ABA
};

inline constinit ThreadStarts g_thread_starts;

}  // namespace profagent
