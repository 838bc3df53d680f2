#include "agent/capture/thread_slots.h"

#include <time.h>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"
#include "agent/base/thread_state.h"

namespace profagent {
namespace {

constexpr uint32_t kFewestSlots = 64;

uint64_t RandomBits() {
  uint64_t bits = 0;
  constexpr int kNonBlocking = 1;  // GRND_NONBLOCK: early in boot the time must do
  if (RawSyscall(SYS_getrandom, &bits, sizeof bits, kNonBlocking) != sizeof bits) {
    struct timespec now = {};
    RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    bits = static_cast<uint64_t>(now.tv_nsec) * 0x9e3779b97f4a7c15 ^
           static_cast<uint64_t>(RawSyscall(SYS_getpid));
  }
  return bits;
}

}  // namespace

bool ThreadSlots::Start() {
  if (slots_ != nullptr) return true;
  for (uint32_t count = kMaxSlots; count >= kFewestSlots; count /= 2) {
    long memory = MapSparse(count * (sizeof(ThreadSlot) + sizeof *by_number_));
    if (SyscallError(memory) != 0) continue;
    slots_ = reinterpret_cast<ThreadSlot*>(memory);
    by_number_ = reinterpret_cast<std::atomic<uint32_t>*>(slots_ + count);
    capacity_ = count;
    // Never 0 and never all ones: both are values that applications use.
    cookie_ = (RandomBits() | uint64_t{1} << 40) & ~(uint64_t{1} << 63) & ~uint64_t{0xffffffff};
    return true;
  }
  return false;
}

void ThreadSlots::Reset() {
  uint32_t used = limit();
  free_head_.store(0, std::memory_order_relaxed);
  in_use_.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < used; ++i) {
    slots_[i].use.store(SlotUse::kFree, std::memory_order_relaxed);
    slots_[i].taker.store(0, std::memory_order_relaxed);
    slots_[i].record = nullptr;
    slots_[i].generation.fetch_add(1, std::memory_order_relaxed);
  }
  limit_.store(0, std::memory_order_release);
}

ThreadSlot* ThreadSlots::Acquire() {
  if (slots_ == nullptr) return nullptr;
  ThreadSlot* slot = nullptr;
  uint64_t head = free_head_.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(head) != 0) {
    ThreadSlot* first = &slots_[static_cast<uint32_t>(head) - 1];
    uint64_t next = (head >> 32 << 32) | first->next_free.load(std::memory_order_relaxed);
    if (free_head_.compare_exchange_weak(head, next, std::memory_order_acq_rel, std::memory_order_acquire)) {
      slot = first;
      break;
    }
  }
  if (slot == nullptr) {
    uint32_t index = limit_.load(std::memory_order_relaxed);
    do {
      if (index >= capacity_) return nullptr;
    } while (!limit_.compare_exchange_weak(index, index + 1, std::memory_order_acq_rel));
    slot = &slots_[index];
    slot->index = index;
  }
  in_use_.fetch_add(1, std::memory_order_relaxed);
  slot->tid.store(0, std::memory_order_relaxed);
  slot->birth = births_.fetch_add(1, std::memory_order_relaxed);
  slot->timer_id.store(kNoTimer, std::memory_order_relaxed);
  slot->perf_fd.store(kNoDescriptor, std::memory_order_relaxed);
  slot->perf_id = 0;
  slot->perf_user_time_only = false;
  slot->perf_first.store(false, std::memory_order_relaxed);
  slot->bounds = {};
  for (std::atomic<uint64_t>& word : slot->name_words) word.store(0, std::memory_order_relaxed);
  slot->name.store(0, std::memory_order_relaxed);
  slot->pthread = 0;
  slot->armed.store(false, std::memory_order_relaxed);
  slot->first_expiry_ns.store(0, std::memory_order_relaxed);
  slot->ticks.store(0, std::memory_order_relaxed);
  slot->prepaid.store(0, std::memory_order_relaxed);
  slot->last_stack.store(0, std::memory_order_relaxed);
  slot->in_handler.store(0, std::memory_order_relaxed);
  slot->spare_stack = nullptr;
  slot->spare_stack_size = 0;
  slot->alternate_stack.store(0, std::memory_order_relaxed);
  slot->timed_outside.store(false, std::memory_order_relaxed);
  slot->start_routine = nullptr;
  slot->taker.store(0, std::memory_order_relaxed);
  slot->use.store(SlotUse::kStarting, std::memory_order_release);  // release: the fields above
  return slot;
}

void ThreadSlots::Release(ThreadSlot* slot) {
  slot->use.store(SlotUse::kFree, std::memory_order_relaxed);
  slot->taker.store(0, std::memory_order_relaxed);
  slot->generation.fetch_add(1, std::memory_order_release);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
  uint64_t head = free_head_.load(std::memory_order_relaxed);
  uint64_t with_slot;
  do {
    slot->next_free.store(static_cast<uint32_t>(head), std::memory_order_relaxed);
    with_slot = ((head >> 32) + 1) << 32 | (slot->index + 1);
  } while (!free_head_.compare_exchange_weak(head, with_slot, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
}

void ThreadSlots::SetNumber(ThreadSlot* slot, uint32_t tid) {
  slot->tid.store(tid, std::memory_order_seq_cst);
  by_number_[tid % capacity_].store(slot->index + 1, std::memory_order_relaxed);
}

ThreadSlot* ThreadSlots::NewestOf(uint32_t tid) {
  uint32_t index = by_number_[tid % capacity_].load(std::memory_order_relaxed) - 1;
  ThreadSlot* slot = index < limit() ? &slots_[index] : nullptr;
  bool is_its = slot != nullptr && slot->use.load(std::memory_order_acquire) != SlotUse::kFree &&
                slot->tid.load(std::memory_order_seq_cst) == tid;
  return is_its ? slot : nullptr;
}

ThreadSlot* ThreadSlots::OfThisThread() {
  uint32_t slot = t_state.slot_plus_one;
  return slot != 0 ? At(slot - 1) : nullptr;
}

uint64_t ThreadSlots::SignalValue(const ThreadSlot& slot) const {
  return cookie_ | (slot.generation.load(std::memory_order_relaxed) & 0x7fff) << 16 | slot.index;
}

ThreadSlots::Found ThreadSlots::Find(uint64_t value) {
  if (cookie_ == 0 || (value & ~uint64_t{0xffffffff}) != cookie_) return {Meaning::kForeign, nullptr};
  if ((value & 0xffffffff) == kProcessIndex) return {Meaning::kProcess, nullptr};
  uint32_t index = value & 0xffff;
  if (index >= limit_.load(std::memory_order_acquire)) return {Meaning::kStale, nullptr};
  ThreadSlot* slot = &slots_[index];
  if ((slot->generation.load(std::memory_order_acquire) & 0x7fff) != (value >> 16 & 0x7fff) ||
      slot->use.load(std::memory_order_acquire) != SlotUse::kTimed) {  // acquire: who timed it filled it
    return {Meaning::kStale, nullptr};
  }
  return {Meaning::kThread, slot};
}

}  // namespace profagent
