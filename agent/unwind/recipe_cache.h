// Remembers the recipe and the module of each code address that a walk met.
//
// Context:   Find and Insert in `signal` and `hook`; Start in `bootstrap`; Wipe in `hook`.
// Shape:     lines of 8 slots, one cache line each: 1024 near lines, and 8192 far ones for what finds its near line
//            full. Most programs never come to the far ones: 16 pages to meet instead of 128, at 12 us each on some
//            machines, and fewer cache misses. A slot is one 64-bit word:
//              37 bits tag | 14 bits index into the table of distinct recipes | 13 bits module id
// No torn reads, no second word: the 47-bit address is multiplied by an odd number modulo 2^47, which maps
//            addresses one to one. The upper 10 bits of the product choose the near line (13 the far one), the lower
//            37 are the tag, so line and tag together are the address itself, not a hash of it.
// Recipes:   equal ones are stored once, in the order of first meeting, so the few hot ones share cache lines.
//            350 after 900 samples of clang, 200 of cc1plus.
// When full: a far line loses one slot, chosen by the address. The recipe table keeps what it has; a recipe that
//            finds no place is used once and decoded again the next time.
// dlclose:   Wipe starts a new generation and clears every slot. Insert takes the generation from before its
//            decoding and takes its own slot back when it changed in between.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/result.h"
#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/unwind/recipe.h"

namespace profagent {

class RecipeCache {
 public:
  struct Hit {
    Recipe recipe;  // kNone: not there
    ModuleId module = ModuleId::kNone;
  };

  Status Start();
  void Stop();

  PROF_ALWAYS_INLINE Hit Find(uintptr_t address) const {
    if (address > kAddressMask) [[unlikely]]
      return {};  // would stand for its lower 47 bits
    uint64_t key = Key(address);
    const std::atomic<uint64_t>* line = NearLine(key);
    uint64_t last = 0;
    for (unsigned i = 0; i < kWays; ++i) {
      last = line[i].load(std::memory_order_relaxed);
      if (IsOf(last, key)) return HitOf(last);
    }
    if (last == 0) [[likely]]
      return {};  // the line has room, so nothing went on to the far one
    line = FarLine(key);
    for (unsigned i = 0; i < kWays; ++i) {
      uint64_t slot = line[i].load(std::memory_order_relaxed);
      if (IsOf(slot, key)) return HitOf(slot);
    }
    return {};
  }

  // What Insert must be given: taken before the tables are looked at.
  PROF_ALWAYS_INLINE uint32_t generation() const { return generation_.load(std::memory_order_acquire); }
  PROF_SIGNAL_SAFE void Insert(uintptr_t address, Recipe recipe, ModuleId module, uint32_t generation);

  void Wipe();

  uint32_t distinct_recipes() const { return recipe_count_.load(std::memory_order_relaxed); }

 private:
  static constexpr unsigned kAddressBits = 47;  // of user space
  static constexpr unsigned kNearLineBits = 10;
  static constexpr unsigned kFarLineBits = 13;
  static constexpr unsigned kTagBits = kAddressBits - kNearLineBits;
  static constexpr unsigned kIndexBits = 14;
  static constexpr unsigned kModuleBits = 13;
  static constexpr unsigned kPayloadBits = kIndexBits + kModuleBits;
  static_assert(kTagBits + kPayloadBits == 64);
  static_assert(static_cast<unsigned>(ModuleId::kMaxLoaded) < 1u << kModuleBits);
  static constexpr uint64_t kAddressMask = (uint64_t{1} << kAddressBits) - 1;
  static constexpr uint64_t kTagMask = (uint64_t{1} << kTagBits) - 1;
  static constexpr uint64_t kIndexMask = (uint64_t{1} << kIndexBits) - 1;
  static constexpr uint64_t kModuleMask = (uint64_t{1} << kModuleBits) - 1;
  static constexpr unsigned kWays = 8;
  static constexpr size_t kNearSlots = size_t{kWays} << kNearLineBits;
  static constexpr size_t kSlotCount = kNearSlots + (size_t{kWays} << kFarLineBits);
  static constexpr size_t kRecipeCount = size_t{1} << kIndexBits;  // 0 stays unused: a slot is never 0
  static constexpr size_t kBucketCount = kRecipeCount * 2;
  static constexpr size_t kMemory = kSlotCount * 8 + kRecipeCount * 8 + kBucketCount * 2;  // 0.75 MiB

  static PROF_ALWAYS_INLINE uint64_t Key(uintptr_t address) {
    return address * 0x9e3779b97f4a7c15 & kAddressMask;  // odd, hence one to one
  }
  static PROF_ALWAYS_INLINE bool IsOf(uint64_t slot, uint64_t key) {
    return slot >> kPayloadBits == (key & kTagMask) && slot != 0;
  }
  PROF_ALWAYS_INLINE Hit HitOf(uint64_t slot) const {
    // acquire, by the data dependency on the index: the recipe was stored before the slot
    uint32_t index = slot >> kModuleBits & kIndexMask;
    return {Recipe(recipes_[index].load(std::memory_order_relaxed)),
            static_cast<ModuleId>(slot & kModuleMask)};
  }
  PROF_ALWAYS_INLINE std::atomic<uint64_t>* NearLine(uint64_t key) const {
    return slots_ + (key >> (kAddressBits - kNearLineBits)) * kWays;
  }
  PROF_ALWAYS_INLINE std::atomic<uint64_t>* FarLine(uint64_t key) const {
    return slots_ + kNearSlots + (key >> (kAddressBits - kFarLineBits)) * kWays;
  }
  // The slot that is `key`'s or is free; null: the line is full of others.
  PROF_SIGNAL_SAFE static std::atomic<uint64_t>* FindPlace(std::atomic<uint64_t>* line, uint64_t key);
  // The index of an equal recipe, entered when new. 0: the table is full.
  PROF_SIGNAL_SAFE uint32_t InternRecipe(Recipe recipe);

  std::atomic<uint64_t>* slots_ = nullptr;    // kSlotCount: the near lines, the far ones
  std::atomic<uint64_t>* recipes_ = nullptr;  // kRecipeCount, filled from 1 upwards
  std::atomic<uint16_t>* buckets_ = nullptr;  // kBucketCount indices by hash, open addressing; 0: free
  std::atomic<uint32_t> recipe_count_{0};
  std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> far_used_{0};  // 1: a slot of a far line may not be 0
};

}  // namespace profagent
