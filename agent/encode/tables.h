// The two containers of the encoder, on an Arena: an array that grows, and a hash index over entries that live
// elsewhere.
//
// Context: `dump`, `offline`. When full: Add says so; nothing that is in is lost.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "agent/base/arena.h"

namespace profagent {

template <class T>
class GrowingArray {
 public:
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 16);
  explicit GrowingArray(Arena& arena) : arena_(arena) {}

  // False: no memory.
  bool Add(T value) {  // a copy: it may stand in the array, which may move
    if (size_ == capacity_ && !Grow()) return false;
    data_[size_++] = value;
    return true;
  }
  void RemoveLast() { --size_; }
  uint32_t size() const { return size_; }
  T& operator[](uint32_t i) { return data_[i]; }
  const T& operator[](uint32_t i) const { return data_[i]; }
  std::span<T> span() { return {data_, size_}; }
  std::span<const T> span() const { return {data_, size_}; }

 private:
  bool Grow() {
    // Doubled while it is small; where memory is what limits it, less at a time comes closer to the limit.
    uint32_t wanted = capacity_ == 0 ? 256 : capacity_ < kMany ? capacity_ * 2 : capacity_ + capacity_ / 4;
    if (wanted < capacity_) return false;
    void* data = arena_.Extend(data_, size_ * sizeof(T), wanted * sizeof(T));
    if (data == nullptr) return false;
    data_ = static_cast<T*>(data);
    capacity_ = wanted;
    return true;
  }

  static constexpr uint32_t kMany = 1u << 14;

  Arena& arena_;
  T* data_ = nullptr;
  uint32_t size_ = 0;
  uint32_t capacity_ = 0;
};

// Finds the number of an entry by its content. Entries are numbered 0, 1, 2... by whoever keeps them.
class HashIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  explicit HashIndex(Arena& arena) : arena_(arena) {}

  // The entry with this hash for which equal(number) holds, or kNone.
  template <class Equal>
  uint32_t Find(uint64_t hash, Equal&& equal) const {
    if (slots_ == nullptr) return kNone;
    uint32_t tag = Tag(hash);
    for (uint32_t at = tag & mask_;; at = (at + 1) & mask_) {
      if (slots_[at].entry_plus_1 == 0) return kNone;
      if (slots_[at].tag == tag && equal(slots_[at].entry_plus_1 - 1)) return slots_[at].entry_plus_1 - 1;
    }
  }
  // False: no memory.
  bool Add(uint64_t hash, uint32_t entry) {
    if ((slots_ == nullptr || count_ >= mask_ / 4 * 3) && !Grow()) return false;
    Place(Slot{Tag(hash), entry + 1});
    ++count_;
    return true;
  }

 private:
  struct Slot {
    uint32_t tag;
    uint32_t entry_plus_1;  // 0: free
  };

  // The high half of a multiplication: whatever bits of the hash differ, the low bits of the tag do.
  static uint32_t Tag(uint64_t hash) { return static_cast<uint32_t>(hash * 0x9e3779b97f4a7c15 >> 32); }
  void Place(Slot slot) {
    uint32_t at = slot.tag & mask_;
    while (slots_[at].entry_plus_1 != 0) at = (at + 1) & mask_;
    slots_[at] = slot;
  }
  bool Grow() {
    uint64_t wanted = slots_ == nullptr ? 512 : (uint64_t{mask_} + 1) * 2;
    if (wanted > uint64_t{1} << 31) return false;
    Slot* slots = arena_.AllocateArray<Slot>(wanted);  // zeroed: the arena's memory is
    // Without memory it goes on, slower, until one slot in sixteen is free (a search ends at a free one).
    if (slots == nullptr) return slots_ != nullptr && count_ < mask_ / 16 * 15;
    Slot* old = slots_;
    uint64_t old_size = old == nullptr ? 0 : uint64_t{mask_} + 1;
    slots_ = slots;
    mask_ = static_cast<uint32_t>(wanted - 1);
    for (uint64_t i = 0; i < old_size; ++i) {
      if (old[i].entry_plus_1 != 0) Place(old[i]);
    }
    arena_.GiveBack(old);
    return true;
  }

  Arena& arena_;
  Slot* slots_ = nullptr;
  uint32_t mask_ = 0;
  uint32_t count_ = 0;
};

}  // namespace profagent
