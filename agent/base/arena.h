// Bump allocation on memory of our own: what `dump` code uses instead of malloc.
//
// Context:   `dump`, `bootstrap`, `offline`. One owner at a time, no lock.
// Invariant: memory comes from the kernel, zeroed, and goes back when the arena ends. Before, only large arrays do, which
//            have a mapping each: kept while they grow or are replaced, they would double a large profile's memory.
// When full: Allocate returns nullptr (its limit is reached, or the kernel refused, e.g. RLIMIT_AS); the caller
//            gives its best partial answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "agent/base/holding.h"

namespace profagent {

class Arena : private Holding {
 public:
  Arena() : Arena(SIZE_MAX) {}
  // `limit`: bytes that it may take from the kernel.
  explicit Arena(size_t limit)
      : Holding([](Holding* self) { static_cast<Arena*>(self)->Release(); }), limit_(limit) {}
  ~Arena() { Release(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* Allocate(size_t size, size_t alignment = 16);

  template <class T>
  T* AllocateArray(size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    constexpr size_t kSize = sizeof(T);  // NOLINT(bugprone-sizeof-expression): arrays of pointers are meant
    if (count > SIZE_MAX / 2 / kSize) return nullptr;
    return static_cast<T*>(Allocate(count * kSize, alignof(T)));
  }

  // Empty: no memory, or the text is.
  std::string_view Copy(std::string_view text);

  // Of an array that is one of ours, `size` bytes long: the same, longer, what is new being zero; it may have moved. nullptr: no
  // memory, and it stays as it is.
  void* Extend(void* array, size_t size, size_t wanted);
  // It will not be used again. A small one stays till the end.
  void GiveBack(void* array);

  // So much of the limit is kept for later: until it is set to 0 again, Allocate leaves it untouched.
  void HoldBack(size_t size) { held_back_ = size; }
  size_t limit() const { return limit_; }

  void Release();
  // The process is about to end: the kernel gives back what is not much with all other memory more cheaply than alone.
  void LeaveToExit() {
    if (taken_ <= kLeaveAtMost) blocks_ = nullptr;
  }

  size_t taken() const { return taken_; }  // bytes that it has of the kernel

 private:
  struct Block {  // at the start of each mapping
    Block* next;
    size_t size;
    void* only;  // the large array that it was made for; nullptr: small ones share it
  };

  Block** OnlyOf(void* array);

  static constexpr size_t kLittle = size_t{1} << 20;
  static constexpr size_t kLeaveAtMost = size_t{2} << 20;  // of each of up to five profiles

  size_t limit_;
  size_t held_back_ = 0;
  size_t taken_ = 0;
  Block* blocks_ = nullptr;
  uintptr_t at_ = 0;
  uintptr_t end_ = 0;
};

}  // namespace profagent
