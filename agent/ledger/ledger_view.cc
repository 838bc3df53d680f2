#include "agent/ledger/ledger_view.h"

#include "agent/ledger/record_hash.h"

namespace profagent {
namespace {

constexpr uint32_t kMaxBucketsLog2 = 24;

// A fuzzer cannot guess 32-bit hashes, and would never get behind them.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kCheckHashes = false;
#else
constexpr bool kCheckHashes = true;
#endif

}  // namespace

Result<LedgerView> LedgerView::Over(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kRecordUnit != 0)
    return Error::Of("the ledger is not aligned");
  if (bytes.size() < sizeof(LedgerHeader)) {
    return Error::Of("too short for a ledger: ", bytes.size(), " bytes, its header alone takes ",
                     sizeof(LedgerHeader));
  }
  LedgerView view;
  view.bytes_ = bytes;
  auto* header = reinterpret_cast<LedgerHeader*>(const_cast<std::byte*>(bytes.data()));  // only loads follow
  uint64_t magic = std::atomic_ref<uint64_t>(header->magic).load(std::memory_order_acquire);
  if (magic == 0) return Error::Of("an empty ledger: its process did not get to the point of recording");
  if (magic != kLedgerMagic) return Error::Of("not a ledger of profagent");
  if (header->version != kLedgerVersion) {
    return Error::Of("a ledger of version ", header->version, "; this profagent reads version ",
                     kLedgerVersion, ": read it with the profagent that recorded it");
  }
  if (header->header_size != sizeof(LedgerHeader) || header->size < kLedgerMinSize ||
      header->size > kLedgerMaxSize) {
    return Error::Of("a damaged ledger: its header gives impossible sizes (header ", header->header_size,
                     ", region ", header->size, ")");
  }

  view.size_ = header->size < bytes.size() ? header->size : bytes.size();
  uint64_t used = header->used.load(std::memory_order_relaxed);
  if (used > header->size) used = header->size;  // the last one to find it full counts past the end
  view.missing_bytes_ = used > view.size_ ? used - view.size_ : 0;

  view.first_record_ = sizeof(LedgerHeader);
  for (const BucketArray& array :
       {header->texts, header->stacks, header->cpu_sites, header->heap_sites, header->contention_sites}) {
    uint64_t start = array.first * kRecordUnit;
    uint64_t end = start + (sizeof(RecordId) << (array.log2_count & 31));
    if (array.log2_count > kMaxBucketsLog2 || start < sizeof(LedgerHeader) || end > view.size_) {
      return Error::Of("a damaged ledger: a table of its header lies outside (offset ", start, ")");
    }
    if (end > view.first_record_) view.first_record_ = end;
  }
  view.stacks_ = header->stacks;
  view.cpu_sites_ = header->cpu_sites;
  view.heap_sites_ = header->heap_sites;
  view.contention_sites_ = header->contention_sites;
  return view;
}

bool LedgerView::Holds(RecordId id, uint64_t size) const {
  // Loaded each time: a live ledger grows. Whoever sees an id sees `used` behind its record.
  uint64_t limit = header().used.load(std::memory_order_relaxed);
  if (limit > size_) limit = size_;
  uint64_t at = id * kRecordUnit;
  return at >= first_record_ && size <= limit && at <= limit - size;
}

// Counts the distinct records of a chain, so that the walk after it needs no further check: Brent's way to find
// a circle, then the number of records before it. Three short passes at worst, and nothing to remember.
LedgerView::Chain LedgerView::Measure(RecordId head, MayFollow may_follow) const {
  auto next = [&](RecordId id) { return *At<RecordId>(id); };

  uint64_t length = 0;
  RecordId marked = 0;
  uint64_t since_mark = 0, stride = 1;
  RecordId id = head;
  for (; id != 0 && id != marked; id = next(id)) {
    if (!may_follow(id)) return Chain{length, true};
    ++length;
    if (++since_mark == stride) {
      marked = id;
      stride *= 2;
      since_mark = 0;
    }
  }
  if (id == 0) return Chain{length, false};

  uint64_t circle = 1;
  for (RecordId at = next(marked); at != marked; at = next(at)) ++circle;
  RecordId ahead = head;
  for (uint64_t i = 0; i < circle; ++i) ahead = next(ahead);
  uint64_t before = 0;
  for (RecordId behind = head; behind != ahead; behind = next(behind), ahead = next(ahead)) ++before;
  return Chain{before + circle, true};
}

std::string_view LedgerView::Text(RecordId id) const {
  if (id == 0 || !Holds(id, sizeof(TextRecord))) return {};
  auto* record = At<TextRecord>(id);
  uint64_t size = record->size;
  if (!Holds(id, sizeof(TextRecord) + size + 1)) return {};
  std::string_view text(record->data(), size);
  if (kCheckHashes && HashText(text) != record->hash) return {};
  return text;
}

std::optional<LedgerView::Stack> LedgerView::FindStack(RecordId id) const {
  if (!Holds(id, sizeof(StackRecord))) return {};
  auto* record = At<StackRecord>(id);
  uint32_t depth = record->depth;
  if (depth == 0 || depth > kMaxStackRecord) return {};
  if (!Holds(id, sizeof(StackRecord) + depth * sizeof(Frame))) return {};
  Stack stack{{record->frames(), depth}, record->end};
  if (stack.end > WalkEnd::kNoProgress) return {};
  if (kCheckHashes && HashStack(stack.frames, stack.end) != record->hash) return {};
  return stack;
}

LedgerView::Module LedgerView::ReadModule(RecordId id) const {
  auto* record = At<ModuleRecord>(id);
  uint32_t build_id_size = record->build_id_size;
  if (build_id_size > kMaxBuildIdSize) build_id_size = 0;
  return Module{
      record->id,         record->flags,           Text(record->path), {record->build_id, build_id_size},
      record->load_bias,  record->start,           record->limit,      record->text_start,
      record->text_limit, record->text_file_offset};
}

LedgerView::Thread LedgerView::ReadThread(RecordId id) const {
  auto* record = At<ThreadRecord>(id);
  return Thread{record->tid, Text(record->name.load(std::memory_order_acquire))};
}

std::optional<LedgerView::CpuSite> LedgerView::ReadCpuSite(RecordId id) const {
  auto* record = At<CpuSiteRecord>(id);
  std::optional<Stack> stack = FindStack(record->stack);
  if (!stack) return {};
  return CpuSite{record->stack, *stack, Text(record->name), record->ticks.load(std::memory_order_relaxed)};
}

// A stack's first few sites hang in its record, the others in buckets.
uint64_t LedgerView::ForEachHeapSite(FunctionRef<void(const HeapSite&)> visit) const {
  bool far_sites = header().far_heap_sites.load(std::memory_order_acquire) != 0;
  bool far_stacks = header().far_stacks.load(std::memory_order_acquire) != 0;
  uint32_t site_buckets = far_sites ? heap_sites_.count() : 0;
  uint32_t stack_buckets = far_stacks ? stacks_.count() : stacks_.near_count();
  uint64_t left_out = ForEachInBuckets<HeapSiteRecord>(heap_sites_, site_buckets, [&](RecordId id) {
    std::optional<Stack> stack = FindStack(At<HeapSiteRecord>(id)->stack);
    if (stack) visit(ReadHeapSite(id, *stack));
    return stack.has_value();
  });
  uint64_t of_stacks = 0;
  left_out += ForEachInBuckets<StackRecord>(stacks_, stack_buckets, [&](RecordId stack_id) {
    const std::atomic<RecordId>& sites = At<StackRecord>(stack_id)->heap_sites;
    if (sites.load(std::memory_order_acquire) == 0) return true;
    std::optional<Stack> stack = FindStack(stack_id);
    if (!stack) return false;
    of_stacks += ForEach<HeapSiteRecord>(
        sites, [&](const HeapSiteRecord& site) { return site.stack == stack_id; },
        [&](RecordId id) {
          visit(ReadHeapSite(id, *stack));
          return true;
        });
    return true;
  });
  return left_out + of_stacks;
}

LedgerView::HeapSite LedgerView::ReadHeapSite(RecordId id, const Stack& stack) const {
  auto* record = At<HeapSiteRecord>(id);
  // Frees first: a block that is allocated and freed between the two loads must not count as freed only.
  uint64_t frees = record->frees.load(std::memory_order_acquire);
  uint64_t allocations = record->allocations.load(std::memory_order_relaxed);
  uint64_t inuse = allocations > frees ? allocations - frees : 0;
  bool saved =
      header().heap_at_peak.load(std::memory_order_relaxed) == 0 &&
      record->peak.load(std::memory_order_acquire) == header().heap_peak.load(std::memory_order_relaxed);
  uint64_t peak = saved ? record->peak_objects.load(std::memory_order_relaxed) : inuse;
  return HeapSite{record->stack, stack, record->size, allocations, inuse, peak};
}

std::optional<LedgerView::ContentionSite> LedgerView::ReadContentionSite(RecordId id) const {
  auto* record = At<ContentionSiteRecord>(id);
  std::optional<Stack> stack = FindStack(record->stack);
  if (!stack || record->kind > ContentionKind::kMutex) return {};
  return ContentionSite{record->stack,
                        *stack,
                        record->kind,
                        Text(record->lock),
                        record->count.load(std::memory_order_relaxed),
                        record->nanos.load(std::memory_order_relaxed)};
}

std::optional<LedgerView::Waiter> LedgerView::ReadWaiter(RecordId id) const {
  auto* record = At<WaiterRecord>(id);
  RecordId site_id = record->site.load(std::memory_order_acquire);
  if (!Holds(site_id, sizeof(ContentionSiteRecord))) return {};
  std::optional<ContentionSite> site = ReadContentionSite(site_id);
  if (!site || site->kind != ContentionKind::kBlock) return {};
  return Waiter{*site, record->since_ns.load(std::memory_order_relaxed),
                record->threshold_ns.load(std::memory_order_relaxed),
                record->waited_ns.load(std::memory_order_relaxed)};
}

}  // namespace profagent
