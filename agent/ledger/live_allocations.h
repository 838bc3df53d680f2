// Which sampled block is live, and which site it belongs to: what a free needs to know.
//
// Context:   Insert and Take in `hook` and `signal`, MayHold in every free. No lock, no waiting: a signal handler may
//            allocate and free while its thread is in here, and a thread that is stopped in here stops nobody.
// Keys:      a block's address is inserted by the thread that just got it and taken by the one that gives it back, so no
//            two threads ever work on one key at once (a program that frees a block twice has lost anyway).
// How:       an entry is one word: tag and site. The address is scrambled by a bijection of 45 bits (48-bit addresses,
//            aligned to 8); the lowest bits choose the bucket, the upper 35 are the tag, so bucket and tag together are
//            the address, and equal tags in a bucket mean equal addresses. 256 bytes of heap are a bucket, and the 1024 buckets of
//            256 KiB of it lie together (where, is scrambled): what a program allocates or frees one after the other lies
//            together for the most part, and meets a cache line that is there already. Blocks below 32 bytes, and those on the large
//            levels, are spread further (Scramble). A bucket is one cache line of 8 entries, any
//            of which may hold the key: an entry is empty again the moment it is taken, and no tombstones pile up.
//            When all 8 are full, the next level has four times as many buckets. Levels come out of the ledger as they
//            are needed, the first one with the first sample. Both ways go from the largest down: there is room, so that
//            a block that does not live long costs one cache line, which its end finds again.
// Filter:    a byte for each of 64 K classes of addresses counts what is inserted, before the block is known to anybody
//            else. 0 means: not here. A byte that reached 255 stays. So it errs towards looking closer, never away.
// When full: Insert says so; the caller drops the sample and counts it.
// fork:      a child's pages are empty (ledger.h). RestartAfterFork forgets where they were.
#pragma once

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/ledger/ledger.h"

namespace profagent {

class LiveAllocations {
 public:
  void Start(Ledger* ledger) { ledger_ = ledger; }
  void RestartAfterFork();

  // False: `block` was not inserted, or was taken already.
  PROF_ALWAYS_INLINE bool MayHold(const void* block) const {
    return filter_[FilterClass(reinterpret_cast<uintptr_t>(block))].load(std::memory_order_relaxed) != 0;
  }

  // Insert will follow: what it looks at comes into the cache meanwhile.
  PROF_SIGNAL_SAFE void Prefetch(const void* block) const;
  // False: no room.
  PROF_SIGNAL_SAFE bool Insert(const void* block, HeapSiteRecord* site);
  // The site of `block`, which is not in here any more; nullptr: it was not.
  PROF_SIGNAL_SAFE HeapSiteRecord* Take(const void* block);

 private:
  static constexpr uint32_t kEntries = 8;
  static constexpr uint32_t kFirstLog2Buckets = 10;  // 64 KiB
  static constexpr uint32_t kLog2Growth = 2;
  static constexpr uint32_t kFilterSize = 1 << 16;
  static constexpr uint8_t kStuck = 255;

  static constexpr uint32_t kAddressBits = 48;
  static constexpr uint32_t kAlignmentBits = 3;
  static constexpr uint32_t kKeyBits = kAddressBits - kAlignmentBits;
  static constexpr uint32_t kNeighbourBits = 5;  // of 32 words: eight blocks of glibc's smallest size
  static constexpr uint32_t kStretchBits = kKeyBits - kNeighbourBits - kFirstLog2Buckets;
  static constexpr uint32_t kTagBits = kKeyBits - kFirstLog2Buckets;
  static constexpr uint32_t kSiteBits = 64 - kTagBits;
  static constexpr uint32_t kSiteUnits = kHeapSiteAlignment / kRecordUnit;
  static_assert((uint64_t{1} << 32) / kSiteUnits <= uint64_t{1} << kSiteBits,
                "every site of a ledger has a number");

  struct alignas(64) Bucket {
    std::atomic<uint64_t> entries[kEntries];  // 0: empty. Whoever changes one needs no order: see Keys.
  };

  // 2 KiB of heap are a class, and 128 KiB share a cache line. What a free waits for is that line: finer classes need more of them
  // than the caches keep (of clang's CPU time, free took 0.62 % with 64 bytes, 0.30 % with 4 KiB). With coarser ones too many
  // blocks have a sampled neighbour: one in 256 here, at 512 KiB a sample. The upper bits keep apart what is aligned alike
  // (arenas, spans, pages): shifted by 19, no bit is lost that tells such blocks apart in 8 GiB of heap.
  PROF_ALWAYS_INLINE static uint32_t FilterClass(uintptr_t address) {
    return static_cast<uint16_t>(address >> 11 ^ address >> 19);
  }
  PROF_ALWAYS_INLINE static uint64_t Scramble(uintptr_t address);
  PROF_ALWAYS_INLINE Bucket* BucketIn(uint32_t level, uint64_t key) const;
  PROF_ALWAYS_INLINE static bool InsertInto(Bucket* bucket, uint64_t entry);
  PROF_SIGNAL_SAFE bool AddLevel(uint32_t level);
  PROF_SIGNAL_SAFE void RaiseFilter(uintptr_t address);
  PROF_SIGNAL_SAFE void LowerFilter(uintptr_t address);

  Ledger* ledger_ = nullptr;
  std::atomic<uint32_t> levels_{0};  // release: those below are there
  std::atomic<uint8_t> filter_[kFilterSize] = {};
};

}  // namespace profagent
