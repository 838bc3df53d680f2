#include "agent/ledger/live_allocations.h"

namespace profagent {

// A bijection of the low kKeyBits bits: steps that can each be undone.
uint64_t LiveAllocations::Scramble(uintptr_t address) {
  constexpr uint64_t kStretchMask = (uint64_t{1} << kStretchBits) - 1;
  uint64_t in_bucket = address >> kAlignmentBits & ((1 << kNeighbourBits) - 1);
  uint64_t stretch = address >> (kAlignmentBits + kNeighbourBits + kFirstLog2Buckets) & kStretchMask;
  stretch = (stretch ^ stretch >> 15) * 0x9e3779b97f4a7c15 & kStretchMask;
  stretch ^= stretch >> 13;
  uint64_t first_bucket = stretch >> (kStretchBits - kFirstLog2Buckets);
  uint64_t bucket =
      (address >> (kAlignmentBits + kNeighbourBits) ^ first_bucket) & ((1 << kFirstLog2Buckets) - 1);
  // Where blocks are smaller than 32 bytes, or all of a large heap is here, 256 bytes of it would fill their buckets on level after
  // level: halves of 16 bytes are apart from level 1 on, of 32 from level 2 on, the rest on the large levels from 4 on.
  stretch ^= (in_bucket & 1) | (in_bucket & 2) << 1 | in_bucket >> 2 << 6;
  return bucket | stretch << kFirstLog2Buckets | in_bucket << (kFirstLog2Buckets + kStretchBits);
}

LiveAllocations::Bucket* LiveAllocations::BucketIn(uint32_t level, uint64_t key) const {
  RecordId first = ledger_->header()->live_levels[level].load(std::memory_order_acquire);
  uint64_t buckets = uint64_t{1} << (kFirstLog2Buckets + kLog2Growth * level);
  return first != 0 ? ledger_->At<Bucket>(first) + (key & (buckets - 1)) : nullptr;
}

bool LiveAllocations::AddLevel(uint32_t level) {
  if (level >= kLiveLevels) {
    ledger_->Count(Loss::kLiveTableFull);
    return false;
  }
  uint64_t size = sizeof(Bucket) << (kFirstLog2Buckets + kLog2Growth * level);
  std::atomic<RecordId>& place = ledger_->header()->live_levels[level];
  if (place.load(std::memory_order_acquire) == 0) {
    void* made = ledger_->AllocateTable(Bytes{size}, Loss::kLiveTableFull);
    if (made == nullptr) return false;
    RecordId none = 0;
    // Lost the race: the table that we made stays unused, once in the life of a process.
    place.compare_exchange_strong(none, ledger_->IdOf(made), std::memory_order_acq_rel);
  }
  uint32_t before = level;
  levels_.compare_exchange_strong(before, level + 1, std::memory_order_release, std::memory_order_relaxed);
  return true;
}

bool LiveAllocations::Insert(const void* block, HeapSiteRecord* site) {
  auto address = reinterpret_cast<uintptr_t>(block);
  uint64_t key = Scramble(address);
  uint64_t entry = key >> kFirstLog2Buckets << kSiteBits | ledger_->IdOf(site) / kSiteUnits;
  RaiseFilter(address);
  uint32_t levels = 0;
  do {
    levels = levels_.load(std::memory_order_acquire);
    for (uint32_t level = levels; level-- > 0;) {
      if (InsertInto(BucketIn(level, key), entry)) return true;
    }
  } while (AddLevel(levels));
  LowerFilter(address);
  return false;
}

// False: it is full, or (nullptr) a fork emptied the ledger under us.
bool LiveAllocations::InsertInto(Bucket* bucket, uint64_t entry) {
  if (bucket == nullptr) return false;
  for (std::atomic<uint64_t>& place : bucket->entries) {
    uint64_t empty = 0;
    if (place.load(std::memory_order_relaxed) == 0 &&
        place.compare_exchange_strong(empty, entry, std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void LiveAllocations::Prefetch(const void* block) const {
  uint64_t key = Scramble(reinterpret_cast<uintptr_t>(block));
  for (uint32_t level = levels_.load(std::memory_order_acquire); level-- > 0;) {
    __builtin_prefetch(BucketIn(level, key), 1);
  }
}

HeapSiteRecord* LiveAllocations::Take(const void* block) {
  // Without a heap profile, and before it begins, the filter still answers for early blocks and whatever shares a class.
  if (!MayHold(block) || ledger_ == nullptr || !ledger_->CanRecord()) return nullptr;
  auto address = reinterpret_cast<uintptr_t>(block);
  uint64_t key = Scramble(address);
  uint64_t tag = key >> kFirstLog2Buckets;
  for (uint32_t level = levels_.load(std::memory_order_acquire); level-- > 0;) {
    Bucket* bucket = BucketIn(level, key);
    if (bucket == nullptr) continue;
    for (std::atomic<uint64_t>& place : bucket->entries) {
      uint64_t entry = place.load(std::memory_order_relaxed);
      if (entry == 0 || entry >> kSiteBits != tag) continue;
      place.store(0, std::memory_order_relaxed);
      LowerFilter(address);
      return ledger_->At<HeapSiteRecord>(
          static_cast<RecordId>((entry & ((uint64_t{1} << kSiteBits) - 1)) * kSiteUnits));
    }
  }
  return nullptr;
}

void LiveAllocations::RaiseFilter(uintptr_t address) {
  std::atomic<uint8_t>& count = filter_[FilterClass(address)];
  uint8_t old = count.load(std::memory_order_relaxed);
  while (old != kStuck &&
         !count.compare_exchange_weak(old, static_cast<uint8_t>(old + 1), std::memory_order_relaxed)) {
  }
}

void LiveAllocations::LowerFilter(uintptr_t address) {
  std::atomic<uint8_t>& count = filter_[FilterClass(address)];
  uint8_t old = count.load(std::memory_order_relaxed);
  while (old != kStuck && old != 0 &&
         !count.compare_exchange_weak(old, static_cast<uint8_t>(old - 1), std::memory_order_relaxed)) {
  }
}

void LiveAllocations::RestartAfterFork() {
  levels_.store(0, std::memory_order_relaxed);
  for (std::atomic<uint8_t>& count : filter_) {
    if (count.load(std::memory_order_relaxed) != 0)
      count.store(0, std::memory_order_relaxed);  // no page for nothing
  }
}

}  // namespace profagent
