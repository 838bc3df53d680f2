#include "agent/unwind/recipe_cache.h"

#include <sys/mman.h>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"

namespace profagent {
namespace {

constexpr unsigned kMaxProbes = 64;
// The first probes stay within one page, where the few hundred recipes of most programs find room: a decoding is
// cold anyway, and need not meet a page of its own here.
constexpr unsigned kNearProbes = 8;
constexpr size_t kNearBuckets = 2048;

}  // namespace

Status RecipeCache::Start() {
  // Slots before recipes before buckets: each page is touched only when something comes to lie in it.
  long memory = MapSparse(kMemory);
  if (int code = SyscallError(memory); code != 0) {
    Error error = Error::Of("no memory for the unwinder's cache (0.75 MiB)");
    error.code = code;
    return error;
  }
  slots_ = reinterpret_cast<std::atomic<uint64_t>*>(memory);
  recipes_ = slots_ + kSlotCount;
  buckets_ = reinterpret_cast<std::atomic<uint16_t>*>(recipes_ + kRecipeCount);
  return Done{};
}

void RecipeCache::Stop() {
  if (slots_ == nullptr) return;
  RawSyscall(SYS_munmap, slots_, kMemory);
  slots_ = nullptr;
  recipe_count_.store(0, std::memory_order_relaxed);
}

uint32_t RecipeCache::InternRecipe(Recipe recipe) {
  uint64_t hash = recipe.bits() * 0xd6e8feb86659fd93;
  for (unsigned probe = 0; probe < kMaxProbes; ++probe) {
    size_t place = probe < kNearProbes
                       ? ((hash >> 53) + probe) % kNearBuckets
                       : kNearBuckets + ((hash >> 40) + probe) % (kBucketCount - kNearBuckets);
    std::atomic<uint16_t>& bucket = buckets_[place];
    uint16_t index = bucket.load(std::memory_order_acquire);
    if (index == 0) {
      uint32_t count = recipe_count_.load(std::memory_order_relaxed);
      do {
        if (count + 1 >= kRecipeCount) return 0;
      } while (!recipe_count_.compare_exchange_weak(count, count + 1, std::memory_order_relaxed));
      uint32_t fresh = count + 1;
      recipes_[fresh].store(recipe.bits(), std::memory_order_relaxed);
      // release: the recipe is stored. When another thread was faster here, `fresh` is lost, which costs 8 bytes.
      if (bucket.compare_exchange_strong(index, static_cast<uint16_t>(fresh), std::memory_order_acq_rel)) {
        return fresh;
      }
    }
    if (recipes_[index].load(std::memory_order_relaxed) == recipe.bits()) return index;
  }
  return 0;
}

std::atomic<uint64_t>* RecipeCache::FindPlace(std::atomic<uint64_t>* line, uint64_t key) {
  for (unsigned i = 0; i < kWays; ++i) {
    uint64_t present = line[i].load(std::memory_order_relaxed);
    if (present == 0 || IsOf(present, key)) return &line[i];
  }
  return nullptr;
}

void RecipeCache::Insert(uintptr_t address, Recipe recipe, ModuleId module, uint32_t generation) {
  uint32_t index = InternRecipe(recipe);
  if (index == 0 || address > kAddressMask) return;
  uint64_t key = Key(address);
  uint64_t word = (key & kTagMask) << kPayloadBits | static_cast<uint64_t>(index) << kModuleBits |
                  (static_cast<uint64_t>(module) & kModuleMask);
  std::atomic<uint64_t>* slot = FindPlace(NearLine(key), key);
  if (slot == nullptr) {
    far_used_.store(1, std::memory_order_seq_cst);  // before the slot, and before the look at the generation
    slot = FindPlace(FarLine(key), key);
    if (slot == nullptr) slot = FarLine(key) + key % kWays;
  }
  if (IsOf(slot->load(std::memory_order_relaxed), key)) return;  // another thread was faster
  slot->store(word, std::memory_order_seq_cst);  // release: the recipe. seq_cst: before the load that follows
  if (generation_.load(std::memory_order_seq_cst) != generation) {
    slot->compare_exchange_strong(word, 0, std::memory_order_relaxed);
  }
}

void RecipeCache::Wipe() {
  generation_.fetch_add(1, std::memory_order_seq_cst);
  // Who sets it after this look sees the new generation, too, and takes its own slot back.
  size_t count = far_used_.load(std::memory_order_seq_cst) != 0 ? kSlotCount : kNearSlots;
  for (size_t i = 0; i < count; ++i) {
    if (slots_[i].load(std::memory_order_relaxed) != 0) slots_[i].store(0, std::memory_order_seq_cst);
  }
}

}  // namespace profagent
