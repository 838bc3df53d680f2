// Reads of the stack that is being walked: plain loads where it is known to be mapped, one system call for a
// stretch of it elsewhere.
//
// Context:   `signal`, `hook`. One object a walk.
// Promise:   no read can fault. Inside `bounds` a word is one comparison and one load. Outside (coroutines,
//            makecontext, a walk that leaves an alternate stack) SafeRead fills a window of 1 KiB from the
//            address upwards, which serves the next frames too.
// Windows:   from a small pool that all walks share; when all are taken, single words are read. They are not on
//            the handler's stack, which may be 8 KiB altogether.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/unwind/memory_range.h"
#include "agent/unwind/registers.h"

namespace profagent {

struct StackWindow {
  static constexpr size_t kSize = 1024;
  alignas(8) unsigned char bytes[kSize];
};

class StackWindowPool {
 public:
  // More walks than these read foreign stacks in the same instant: never seen.
  static constexpr uint32_t kCount = 32;

  // nullptr: all taken.
  PROF_SIGNAL_SAFE StackWindow* Take();
  PROF_SIGNAL_SAFE void Return(StackWindow* window);

 private:
  std::atomic<uint32_t> taken_{0};  // bit i: windows_[i] belongs to a walk. acquire/release: its bytes
  StackWindow windows_[kCount] = {};
};

class StackMemory {
 public:
  PROF_ALWAYS_INLINE StackMemory(MemoryRange bounds, StackWindowPool* pool) : pool_(pool) {
    bool usable = bounds.limit > bounds.start && bounds.limit - bounds.start >= sizeof(uint64_t);
    // Without bounds the one address that passes the comparison is a word of our own.
    low_ = usable ? bounds.start : reinterpret_cast<uintptr_t>(&kNothing);
    room_ = usable ? bounds.limit - bounds.start - sizeof(uint64_t) : 0;
  }
  PROF_ALWAYS_INLINE ~StackMemory() {
    if (window_ != nullptr) pool_->Return(window_);
  }
  StackMemory(const StackMemory&) = delete;
  StackMemory& operator=(const StackMemory&) = delete;

  PROF_ALWAYS_INLINE bool Read(uintptr_t address, uint64_t* value) {
    if (address - low_ <= room_) [[likely]] {  // an address below low_ wraps to a difference above any room
      *value = LoadWord(address);
      return true;
    }
    return ReadForeign(address, value);
  }
  // `size` bytes or fewer, as far as they can be read; for code and tables of no known object.
  PROF_SIGNAL_SAFE static size_t Copy(uintptr_t address, void* to, size_t size);

 private:
  static constexpr uint64_t kNothing = 0;
  PROF_SIGNAL_SAFE bool ReadForeign(uintptr_t address, uint64_t* value);

  uintptr_t low_;
  uintptr_t room_;
  StackWindowPool* pool_;
  StackWindow* window_ = nullptr;
  uintptr_t window_start_ = 0;
  size_t window_size_ = 0;
};

}  // namespace profagent
