// The reading side of the ledger. Believes nothing: the bytes may come from a process that was killed, from a
// disk that lost half of them, or from a fuzzer.
//
// Context:   `dump` and `offline`. No allocation, no lock. Over a live ledger too, while threads add to it:
//            what is published during a walk may or may not be seen, what is seen is complete.
// Checks:    magic, version and sizes once; each RecordId before it is followed (inside the used bytes, behind
//            the bucket arrays); stacks and texts against their own hashes; each record of a hashed chain
//            against its bucket. Chains of a damaged file may run in circles or into nowhere: a walk visits
//            every record once and ends.
// What fails a check is left out and counted; the rest is still delivered.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "agent/base/function_ref.h"
#include "agent/base/result.h"
#include "agent/ledger/layout.h"
#include "agent/ledger/record_hash.h"

namespace profagent {

class LedgerView {
 public:
  struct Stack {
    std::span<const Frame> frames;  // leaf first, at least one
    WalkEnd end;
  };
  struct Module {
    ModuleId id;
    uint16_t flags;  // ModuleFlags
    std::string_view path;
    std::span<const uint8_t> build_id;
    uint64_t load_bias, start, limit, text_start, text_limit, text_file_offset;
  };
  struct Thread {
    uint32_t tid;
    std::string_view name;
  };
  struct CpuSite {
    RecordId stack_id;
    Stack stack;
    std::string_view name;  // of the thread; empty: none known
    uint64_t ticks;
  };
  struct HeapSite {
    RecordId stack_id;
    Stack stack;
    uint64_t size;         // bytes of a block
    uint64_t allocations;  // sampled
    uint64_t inuse;        // of these, live now
    uint64_t peak;         // of these, live when the heap was at its largest
  };
  struct ContentionSite {
    RecordId stack_id;
    Stack stack;
    ContentionKind kind;
    std::string_view lock;  // empty: not known, or not asked for
    uint64_t count;         // in units of 1 / kContentionUnit
    uint64_t nanos;
  };
  struct Waiter {
    ContentionSite site;  // of kind kBlock; its values are of the waits that have ended
    uint64_t since_ns;    // CLOCK_MONOTONIC
    uint64_t threshold_ns;
    uint64_t waited_ns;  // 0: it waits still
  };

  // `bytes` (8-byte aligned) may be the whole region, or a copy of its used part, and must outlive the view.
  // An error says what these bytes are instead of a ledger.
  static Result<LedgerView> Over(std::span<const std::byte> bytes);

  const LedgerHeader& header() const { return *reinterpret_cast<const LedgerHeader*>(bytes_.data()); }
  uint64_t losses(Loss loss) const {
    return header().losses[static_cast<uint32_t>(loss)].load(std::memory_order_relaxed);
  }
  // Bytes that were in use but are not here: the copy was cut short.
  uint64_t missing_bytes() const { return missing_bytes_; }

  // Empty: 0, or not a text.
  std::string_view Text(RecordId id) const;
  std::optional<Stack> FindStack(RecordId id) const;

  // Each returns how many records it had to leave out (a broken chain counts as one: how long it was cannot be
  // known). The order is that of the chains: newest first in a list, by bucket for sites.
  template <class Visit>
  uint64_t ForEachModule(Visit&& visit) const {
    return ForEach<ModuleRecord>(header().modules, Anywhere<ModuleRecord>,
                                 [&](RecordId id) { return Deliver(ReadModule(id), visit); });
  }
  template <class Visit>
  uint64_t ForEachThread(Visit&& visit) const {
    return ForEach<ThreadRecord>(header().threads, Anywhere<ThreadRecord>,
                                 [&](RecordId id) { return Deliver(ReadThread(id), visit); });
  }
  template <class Visit>
  uint64_t ForEachCpuSite(Visit&& visit) const {
    return ForEachInBuckets<CpuSiteRecord>(cpu_sites_,
                                           [&](RecordId id) { return Deliver(ReadCpuSite(id), visit); });
  }
  uint64_t ForEachHeapSite(FunctionRef<void(const HeapSite&)> visit) const;
  template <class Visit>
  uint64_t ForEachContentionSite(Visit&& visit) const {
    return ForEachInBuckets<ContentionSiteRecord>(
        contention_sites_, [&](RecordId id) { return Deliver(ReadContentionSite(id), visit); });
  }
  // Waits that no site holds yet: of threads that are waiting now, or were when the process died, and some that have just ended.
  template <class Visit>
  uint64_t ForEachWaiter(Visit&& visit) const {
    return ForEach<WaiterRecord>(header().waiters, Anywhere<WaiterRecord>, [&](RecordId id) {
      if (At<WaiterRecord>(id)->site.load(std::memory_order_acquire) == 0) return true;
      return Deliver(ReadWaiter(id), visit);
    });
  }

 private:
  struct Chain {
    uint64_t length;  // distinct records that may be followed
    bool broken;      // it ends in an id that names no record, in a stranger, or in itself
  };

  template <class Record>
  const Record* At(RecordId id) const {
    return reinterpret_cast<const Record*>(bytes_.data() + id * kRecordUnit);
  }
  // A record of `size` bytes can stand there.
  bool Holds(RecordId id, uint64_t size) const;
  // Whether a record may stand in the chain that is being followed.
  using MayFollow = FunctionRef<bool(RecordId)>;
  Chain Measure(RecordId head, MayFollow may_follow) const;
  template <class Record>
  static bool Anywhere(const Record&) {
    return true;
  }

  Module ReadModule(RecordId id) const;
  Thread ReadThread(RecordId id) const;
  std::optional<CpuSite> ReadCpuSite(RecordId id) const;
  HeapSite ReadHeapSite(RecordId id, const Stack& stack) const;
  std::optional<ContentionSite> ReadContentionSite(RecordId id) const;
  std::optional<Waiter> ReadWaiter(RecordId id) const;

  template <class Entry, class Visit>
  static bool Deliver(const Entry& entry, Visit& visit) {
    visit(entry);
    return true;
  }
  template <class Entry, class Visit>
  static bool Deliver(const std::optional<Entry>& entry, Visit& visit) {
    if (entry) visit(*entry);
    return entry.has_value();
  }

  template <class Record, class Belongs, class Read>
  uint64_t ForEach(const std::atomic<RecordId>& list, Belongs&& belongs, Read&& read) const {
    RecordId id = list.load(std::memory_order_acquire);  // acquire: the records behind the id are complete
    if (id == 0) return 0;
    Chain chain =
        Measure(id, [&](RecordId at) { return Holds(at, sizeof(Record)) && belongs(*At<Record>(at)); });
    uint64_t left_out = chain.broken ? 1 : 0;
    for (; chain.length > 0; --chain.length) {
      if (!read(id)) ++left_out;
      id = *At<RecordId>(id);
    }
    return left_out;
  }

  // All chains of a table. A record is believed in its own buckets only, its near one and its own: chains of a damaged file that
  // run into one another count it twice at most (a heap site, which hangs in its stack's, four times).
  template <class Record, class Read>
  uint64_t ForEachInBuckets(const BucketArray& array, Read&& read) const {
    return ForEachInBuckets<Record>(array, array.count(), read);
  }
  // Of its first `buckets`.
  template <class Record, class Read>
  uint64_t ForEachInBuckets(const BucketArray& array, uint32_t buckets, Read&& read) const {
    auto* heads = At<std::atomic<RecordId>>(array.first);
    uint64_t left_out = 0;
    for (uint32_t i = 0; i < buckets; ++i) {
      if (i + kReadAhead < buckets)
        __builtin_prefetch(At<RecordId>(heads[i + kReadAhead].load(std::memory_order_relaxed)));
      left_out += ForEach<Record>(
          heads[i],
          [&](const Record& record) {
            uint32_t hash = HashOf(record);
            return array.Own(hash) == i || array.Near(hash) == i;
          },
          read);
    }
    return left_out;
  }

  static constexpr uint32_t kReadAhead = 8;  // buckets

  std::span<const std::byte> bytes_;
  uint64_t size_ = 0;          // of the region, or what is here of it
  uint64_t first_record_ = 0;  // bytes before it are header and bucket heads
  uint64_t missing_bytes_ = 0;
  // as checked: a header in shared memory could change behind the check
  BucketArray stacks_{}, cpu_sites_{}, heap_sites_{}, contention_sites_{};
};

}  // namespace profagent
