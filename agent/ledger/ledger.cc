#include "agent/ledger/ledger.h"

#include <cstring>

#include "agent/base/elements.h"
#include "agent/base/logarithm.h"
#include "agent/base/plain_floats.h"
#include "agent/ledger/record_hash.h"

namespace profagent {
namespace {

constexpr uint32_t kNearChain = 2;  // records
constexpr uint32_t kSitesOfStack = 4;
constexpr uint32_t kManyOwn = 4096;
constexpr uint64_t kMaxTextSize = 4096;

// The bytes that a sampled block of `size` stands for: it was drawn with probability 1 - e^(-size / rate).
Bytes HeapWeight(Bytes size, uint64_t rate) {
  if (rate <= 1 || size.value == 0) return size;
  return Bytes{WithPlainFloats(
      [](uint64_t whole, uint64_t mean) {
        auto bytes = static_cast<double>(whole);
        return static_cast<uint64_t>(bytes / (1 - ExpOfNegative(bytes / static_cast<double>(mean))));
      },
      size.value, rate)};
}

}  // namespace

RecordId Ledger::Allocate(const Place& place) {
  // Over-aligned records take what they may need to be moved up; the gap before them stays unused.
  uint64_t size = RoundUp(place.size, kRecordUnit) + (place.alignment - kRecordUnit);
  std::atomic<uint64_t>& used = header()->used;
  // Looked at first, so that `used` does not grow for ever once the ledger is full.
  uint64_t at = used.load(std::memory_order_relaxed);
  if (at + size > size_) {
    Count(place.loss, place.lost);
    return 0;
  }
  at = used.fetch_add(size, std::memory_order_relaxed);
  // Wiped since CanRecord: a signal handler forked here, and we are the child.
  if (at < first_record_) return 0;
  if (at + size > size_) {
    Count(place.loss, place.lost);
    return 0;
  }
  if (in_file_ && !ReserveUpTo(at + size)) {
    uint64_t end = at + size;  // given back, or an hour on a full disk would use the region up
    used.compare_exchange_strong(end, at, std::memory_order_relaxed);
    Count(Loss::kNoSpace, place.lost);
    return 0;
  }
  std::atomic_ref<uint64_t> handed_out(handed_out_);
  uint64_t known = handed_out.load(std::memory_order_relaxed);
  while (known < at + size && !handed_out.compare_exchange_weak(known, RoundUp(at + size, kReserveStep),
                                                                std::memory_order_relaxed)) {
  }
  return static_cast<RecordId>(RoundUp(at, place.alignment) / kRecordUnit);
}

// A near chain takes so many and is closed for good, so that two who make the same record at once always meet.
template <class Record, class Same, class Fill>
Record* Ledger::FindOrMake(const Chains& chains, const Place& place, Same same, Fill fill) {
  std::atomic<RecordId>* bucket = chains.near;
  std::atomic<RecordId>* const own = chains.own;
  Record* made = nullptr;
  RecordId made_id = 0;
  // A load that writes: a page of buckets that nobody has touched would be faulted in to be read, and again to be written.
  auto head_of = [](std::atomic<RecordId>* chain) {
    RecordId head = 0;
    chain->compare_exchange_strong(head, 0, std::memory_order_acquire);
    return head;
  };
  // Everything from here on down the chain was compared already. (A chain can also end at 0 before it: when a
  // fork wiped it under us.)
  RecordId seen = 0, seen_in_own = 0;
  uint32_t compared = 0;
  auto find = [&](RecordId newest) -> Record* {
    for (RecordId id = newest; id != seen && id != 0; id = At<Record>(id)->next, ++compared) {
      if (same(*At<Record>(id))) return At<Record>(id);
    }
    return nullptr;
  };
  if (chains.own_first) {
    __builtin_prefetch(At<Record>(bucket->load(std::memory_order_relaxed)));
    seen_in_own = head_of(own);
    if (Record* found = find(seen_in_own)) return found;
    compared = 0;
  }
  RecordId head = head_of(bucket);
  for (;;) {
    if (Record* found = find(head)) return found;
    seen = head;
    if (bucket != own && compared >= chains.near_room) {
      bucket = own;
      seen = seen_in_own;
      head = head_of(bucket);
      continue;
    }
    if (made == nullptr) {
      made_id = Allocate(place);
      if (made_id == 0) return nullptr;
      made = At<Record>(made_id);
      fill(*made);
    }
    made->next = head;
    if (bucket != chains.near && chains.far != nullptr && chains.far->load(std::memory_order_relaxed) == 0) {
      chains.far->store(1, std::memory_order_relaxed);
    }
    // release: the record is filled. acquire: a newer head's record will be compared.
    if (bucket->compare_exchange_strong(head, made_id, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
      if (bucket == own) std::atomic_ref(own_made_).fetch_add(1, std::memory_order_relaxed);
      return made;
    }
  }
}

// The first records go to their near buckets: the page fault of a bucket head of one's own was a fifteenth of what a sample of a
// short profile costs. Where there are many more, the bucket of one's own is looked into first: the two in the near chain are
// other ones, and cold.
Ledger::Chains Ledger::ChainsOf(const BucketArray& array, uint32_t hash) {
  std::atomic<RecordId>*near = Heads(array) + array.Near(hash), *own = Heads(array) + array.Own(hash);
  bool has_many = std::atomic_ref(own_made_).load(std::memory_order_relaxed) >= kManyOwn;
  return {near, own, kNearChain, near != own && has_many};
}

template <class Record>
void Ledger::Publish(std::atomic<RecordId>& list, Record* record) {
  RecordId head = list.load(std::memory_order_relaxed);
  do {
    record->next = head;
    // release: the record is filled
  } while (!list.compare_exchange_weak(head, IdOf(record), std::memory_order_release));
}

void Ledger::Count(Loss loss, uint64_t times) {
  if (!CanRecord()) return;
  header()->losses[static_cast<uint32_t>(loss)].fetch_add(times, std::memory_order_relaxed);
}

TextId Ledger::InternText(std::string_view text) {
  if (!CanRecord() || text.empty()) return kNoText;
  if (text.size() > kMaxTextSize) text = text.substr(0, kMaxTextSize);
  uint32_t hash = HashText(text);
  auto* record = FindOrMake<TextRecord>(
      ChainsOf(texts_, hash), {.size = sizeof(TextRecord) + text.size() + 1, .lost = 0},
      [&](const TextRecord& other) {
        return other.hash == hash && other.size == text.size() &&
               AreSame(other.data(), text.data(), text.size());
      },
      [&](TextRecord& made) {
        made.hash = hash;
        made.size = static_cast<uint32_t>(text.size());
        CopyTo(made.data(), text.data(), text.size());
        made.data()[text.size()] = '\0';
      });
  return record != nullptr ? TextId{IdOf(record)} : kNoText;
}

bool Ledger::AddModule(const ModuleDescription& module) {
  if (!CanRecord()) return false;
  TextId path = InternText(module.path);
  RecordId id = Allocate({sizeof(ModuleRecord)});
  if (id == 0) return false;
  auto* record = At<ModuleRecord>(id);
  record->id = module.id;
  record->flags = module.flags;
  record->path = path.value;
  size_t build_id_size = module.build_id.size() < kMaxBuildIdSize ? module.build_id.size() : kMaxBuildIdSize;
  record->build_id_size = static_cast<uint32_t>(build_id_size);
  if (build_id_size > 0) std::memcpy(record->build_id, module.build_id.data(), build_id_size);
  record->load_bias = module.load_bias;
  record->start = module.start;
  record->limit = module.limit;
  record->text_start = module.text_start;
  record->text_limit = module.text_limit;
  record->text_file_offset = module.text_file_offset;
  Publish(header()->modules, record);
  return true;
}

ThreadRecord* Ledger::AddThread(uint32_t tid, TextId name) {
  if (!CanRecord()) return nullptr;
  RecordId id = Allocate({.size = sizeof(ThreadRecord), .lost = 0});
  if (id == 0) return nullptr;
  auto* record = At<ThreadRecord>(id);
  record->tid = tid;
  record->name.store(name.value, std::memory_order_relaxed);
  Publish(header()->threads, record);
  return record;
}

StackId Ledger::InternStack(std::span<const Frame> frames, WalkEnd end, uint64_t ticks) {
  if (!CanRecord() || frames.empty()) return kNoStack;
  if (frames.size() > kMaxStackRecord) frames = frames.first(kMaxStackRecord);
  uint32_t hash = HashStack(frames, end);
  Chains chains = ChainsOf(stacks_, hash);
  chains.far = &header()->far_stacks;
  auto* record = FindOrMake<StackRecord>(
      chains, {.size = sizeof(StackRecord) + frames.size_bytes(), .lost = ticks},
      [&](const StackRecord& other) {
        return other.hash == hash && other.depth == frames.size() && other.end == end &&
               AreSame(other.frames(), frames.data(), frames.size());
      },
      [&](StackRecord& made) {
        made.hash = hash;
        made.depth = static_cast<uint16_t>(frames.size());
        made.end = end;
        CopyTo(made.frames(), frames.data(), frames.size());
      });
  return record != nullptr ? StackId{IdOf(record)} : kNoStack;
}

bool Ledger::AddCpuTicks(StackId stack, TextId thread_name, uint64_t ticks) {
  if (!CanRecord() || stack == kNoStack) return false;
  auto* site = FindOrMake<CpuSiteRecord>(
      ChainsOf(cpu_sites_, HashPair(stack.value, thread_name.value)),
      {.size = sizeof(CpuSiteRecord), .lost = ticks},
      [&](const CpuSiteRecord& other) {
        return other.stack == stack.value && other.name == thread_name.value;
      },
      [&](CpuSiteRecord& made) {
        made.stack = stack.value;
        made.name = thread_name.value;
      });
  if (site == nullptr) return false;
  site->ticks.fetch_add(ticks, std::memory_order_relaxed);
  return true;
}

HeapSiteRecord* Ledger::FindHeapSite(StackId stack, Bytes size) {
  if (!CanRecord() || stack == kNoStack) return nullptr;
  // Most stacks ask for blocks of one or two sizes. Their records are at hand where the stack's is.
  std::atomic<RecordId>* own = Heads(heap_sites_) + heap_sites_.Own(HashPair(stack.value, size.value));
  return FindOrMake<HeapSiteRecord>(
      {&At<StackRecord>(stack.value)->heap_sites, own, kSitesOfStack, false, &header()->far_heap_sites},
      {.size = sizeof(HeapSiteRecord), .alignment = kHeapSiteAlignment},
      [&](const HeapSiteRecord& other) { return other.stack == stack.value && other.size == size.value; },
      [&](HeapSiteRecord& made) {
        made.stack = stack.value;
        made.size = size.value;
        made.weight = HeapWeight(size, header()->heap_rate.load(std::memory_order_relaxed)).value;
      });
}

ContentionSiteRecord* Ledger::FindContentionSite(ContentionKind kind, StackId stack, TextId lock) {
  if (!CanRecord() || stack == kNoStack) return nullptr;
  ContentionSiteRecord wanted{};
  wanted.stack = stack.value;
  wanted.lock = lock.value;
  wanted.kind = kind;
  return FindOrMake<ContentionSiteRecord>(
      ChainsOf(contention_sites_, HashOf(wanted)), {sizeof(ContentionSiteRecord)},
      [&](const ContentionSiteRecord& other) {
        return other.stack == stack.value && other.lock == lock.value && other.kind == kind;
      },
      [&](ContentionSiteRecord& made) {
        made.stack = stack.value;
        made.lock = lock.value;
        made.kind = kind;
      });
}

WaiterRecord* Ledger::TakeWaiter(uint32_t tid) {
  if (!CanRecord()) return nullptr;
  // Where there is none, thousands of threads that wait at once would each look at those of all others.
  std::atomic_ref<uint32_t> free_waiters(free_waiters_);
  bool may_find = free_waiters.load(std::memory_order_relaxed) != 0;
  RecordId id = may_find ? header()->waiters.load(std::memory_order_acquire) : 0;
  for (; id != 0; id = At<WaiterRecord>(id)->next) {
    uint32_t free = 0;
    if (At<WaiterRecord>(id)->tid.compare_exchange_strong(free, tid, std::memory_order_acquire)) {
      free_waiters.fetch_sub(1, std::memory_order_relaxed);
      return At<WaiterRecord>(id);
    }
  }
  // A cache line of its own: its thread writes it while it holds the lock that it waited for.
  static_assert(sizeof(WaiterRecord) <= 64);
  id = Allocate({.size = 64, .alignment = 64, .loss = Loss::kWaitersFull});
  if (id == 0) return nullptr;
  auto* waiter = At<WaiterRecord>(id);
  waiter->tid.store(tid, std::memory_order_relaxed);
  Publish(header()->waiters, waiter);
  return waiter;
}

void Ledger::GiveWaiter(WaiterRecord* waiter) {
  waiter->site.store(0, std::memory_order_relaxed);
  waiter->tid.store(0, std::memory_order_release);
  std::atomic_ref(free_waiters_).fetch_add(1, std::memory_order_relaxed);
}

void* Ledger::AllocateTable(Bytes size, Loss loss) {
  if (!CanRecord()) return nullptr;
  RecordId id = Allocate({.size = size.value, .alignment = 64, .loss = loss});
  return id != 0 ? At<std::byte>(id) : nullptr;
}

}  // namespace profagent
