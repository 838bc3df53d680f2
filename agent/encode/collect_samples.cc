#include "agent/encode/collect_samples.h"

#include <algorithm>
#include <string_view>

#include "agent/base/allocation_names.h"
#include "agent/encode/lock_names.h"
#include "agent/encode/tables.h"
#include "agent/ledger/contention_sample.h"

namespace profagent {
namespace {

// Up to so many samples, all frames of a heap profile are named at once. Of many, most frames are met in most samples, and meeting
// them once more takes longer than a second pass over the symbols.
constexpr size_t kFewRows = 4096;

// By which name programs, compilers and Rust's runtime ask for memory.
bool IsAllocationFunction(std::string_view name) {
  static constexpr std::string_view kOthers[] = {
      "__libc_reallocarray", "__rust_alloc",       "__rust_alloc_zeroed", "__rust_realloc",
      "__rdl_alloc",         "__rdl_alloc_zeroed", "__rdl_realloc",
  };
  for (std::string_view known : kAllocationNames) {
    if (name == known) return true;
  }
  for (std::string_view known : kOthers) {
    if (name == known) return true;
  }
  // operator new and new[]: of a size, alone or with an alignment and std::nothrow. Nothing else begins so.
  if (name.starts_with("_Znwm") || name.starts_with("_Znam")) return true;
  // Rust's shims carry a hash in front since 1.88.
  return name.starts_with("_R") &&
         (name.ends_with("___rust_alloc") || name.ends_with("___rdl_alloc") ||
          name.ends_with("___rust_alloc_zeroed") || name.ends_with("___rdl_alloc_zeroed") ||
          name.ends_with("___rust_realloc") || name.ends_with("___rdl_realloc"));
}

void AddAllFrames(std::span<const SampleRow> rows, FrameTable* frames) {
  ShownStack last;
  for (const SampleRow& row : rows) {
    // What a stack shares with the one before it, from the root on, is there already.
    uint32_t others = row.stack.size() - row.stack.SharedWith(last);
    for (uint32_t i = 0; i < others; ++i) frames->Add(row.stack[i]);
    last = row.stack;
  }
}

uint64_t CollectHeap(const LedgerView& ledger, ProfileKind kind, FrameTable* frames, SampleTable* samples) {
  uint64_t damaged = ledger.ForEachHeapSite([&](const LedgerView::HeapSite& site) {
    SampleCounts counts;
    counts.first = kind == ProfileKind::kHeapPeak ? site.peak : site.allocations;
    counts.second = kind == ProfileKind::kHeapPeak ? 0 : site.inuse;
    counts.weight = Product(kind == ProfileKind::kHeap ? counts.second : counts.first, site.size);
    std::span<const Frame> stack = site.stack.frames;
    samples->Add(stack, {{}, site.size}, counts);
    // Here, while they are in the cache.
    for (Frame frame : stack.first(std::min<size_t>(kHiddenLeafRoom, stack.size()))) frames->Add(frame);
  });
  if (samples->rows().size() <= kFewRows) {
    samples->SortByPlace();
    AddAllFrames(samples->rows(), frames);
  }
  // A stack whose leaf is the allocator's own says where in the allocator, which nobody asks: Go hides runtime.* likewise. Without
  // memory it is shown.
  if (frames->Name()) {
    for (uint32_t i = 0; i < frames->size(); ++i)
      (*frames)[i].allocates = IsAllocationFunction(frames->SymbolOf(i).name);
  }
  samples->CutAt(ledger.header().max_depth);
  return damaged;
}

uint64_t CollectContention(const LedgerView& ledger, ContentionKind kind, Nanos now,
                           const ModuleTable& modules, Arena& arena, SampleTable* samples) {
  LockNames locks(modules, arena);
  ledger.ForEachContentionSite([&](const LedgerView::ContentionSite& site) { locks.Add(site.lock); });
  locks.Resolve();
  auto add = [&](const LedgerView::ContentionSite& site, uint64_t count, uint64_t nanos) {
    samples->Add(site.stack.frames, {locks.Name(site.lock), 0}, {.weight = nanos, .first = count});
  };
  uint64_t damaged = ledger.ForEachContentionSite([&](const LedgerView::ContentionSite& site) {
    // A site is made when a wait begins; nothing was sampled yet while its count is 0.
    if (site.kind == kind && site.count != 0) add(site, site.count, site.nanos);
  });
  if (kind != ContentionKind::kBlock) return damaged;
  uint64_t rate = ledger.header().block_rate.load(std::memory_order_relaxed);
  return damaged + ledger.ForEachWaiter([&](const LedgerView::Waiter& waiter) {
    uint64_t so_far = now.value > waiter.since_ns ? now.value - waiter.since_ns : 0;
    uint64_t waited = waiter.waited_ns != 0 ? waiter.waited_ns : so_far;
    if (waited == 0 || waited < waiter.threshold_ns) return;
    ContentionSample sample = BlockSample(Nanos{waited}, rate);
    add(waiter.site, sample.count, sample.nanos);
  });
}

}  // namespace

uint64_t CollectSamples(const LedgerView& ledger, ProfileKind kind, Nanos now, const ModuleTable& modules,
                        Arena& arena, FrameTable* frames, SampleTable* samples) {
  samples->HideModule(modules.agent());
  switch (kind) {
    case ProfileKind::kCpu:
      // Most programs of a script are over before the first tick: no need to touch the pages of an empty table.
      if (ledger.header().cpu_ticks.load(std::memory_order_relaxed) == 0) return 0;
      return ledger.ForEachCpuSite([&](const LedgerView::CpuSite& site) {
        samples->Add(site.stack.frames, {site.name, 0}, {.weight = site.ticks});
      });
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      return CollectHeap(ledger, kind, frames, samples);
    case ProfileKind::kBlock:
      return CollectContention(ledger, ContentionKind::kBlock, now, modules, arena, samples);
    case ProfileKind::kMutex:
      return CollectContention(ledger, ContentionKind::kMutex, now, modules, arena, samples);
  }
  return 0;
}

}  // namespace profagent
