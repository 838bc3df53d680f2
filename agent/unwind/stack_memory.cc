#include "agent/unwind/stack_memory.h"

#include <cstring>

#include "agent/base/safe_read.h"

namespace profagent {

StackWindow* StackWindowPool::Take() {
  uint32_t taken = taken_.load(std::memory_order_relaxed);
  while (taken != ~uint32_t{0}) {
    int free = __builtin_ctz(~taken);
    if (taken_.compare_exchange_weak(taken, taken | uint32_t{1} << free, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return &windows_[free];
    }
  }
  return nullptr;
}

void StackWindowPool::Return(StackWindow* window) {
  taken_.fetch_and(~(uint32_t{1} << (window - windows_)), std::memory_order_release);
}

size_t StackMemory::Copy(uintptr_t address, void* to, size_t size) { return SafeRead(address, to, size); }

bool StackMemory::ReadForeign(uintptr_t address, uint64_t* value) {
  if (address - window_start_ < window_size_ && window_size_ - (address - window_start_) >= sizeof *value) {
    std::memcpy(value, window_->bytes + (address - window_start_), sizeof *value);
    return true;
  }
  if (window_ == nullptr) window_ = pool_->Take();
  if (window_ == nullptr) return SafeRead(address, value, sizeof *value) == sizeof *value;
  // A callee's saved registers are read from the return address downwards: begin a little below.
  constexpr uintptr_t kBelow = 64;
  uintptr_t start = address > kBelow ? address - kBelow : address;
  size_t size = SafeRead(start, window_->bytes, StackWindow::kSize);
  if (size <= address - start || size - (address - start) < sizeof *value) {  // `start` may be in a hole
    start = address;
    size = SafeRead(start, window_->bytes, StackWindow::kSize);
  }
  window_start_ = start;
  window_size_ = size;
  if (size <= address - start || size - (address - start) < sizeof *value) return false;
  std::memcpy(value, window_->bytes + (address - start), sizeof *value);
  return true;
}

}  // namespace profagent
