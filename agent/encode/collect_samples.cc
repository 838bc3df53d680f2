#include "agent/encode/collect_samples.h"

#include <algorithm>
#include <string_view>

#include "agent/encode/lock_names.h"
#include "agent/encode/tables.h"
#include "agent/ledger/contention_sample.h"

namespace profagent {
namespace {

// By which name programs, compilers and Rust's runtime ask for memory.
bool IsAllocationFunction(std::string_view name) {
  static constexpr std::string_view kNames[] = {"malloc",
                                                "calloc",
                                                "realloc",
                                                "reallocarray",
                                                "posix_memalign",
                                                "aligned_alloc",
                                                "memalign",
                                                "valloc",
                                                "pvalloc",
                                                "__libc_reallocarray",
                                                "__rust_alloc",
                                                "__rust_alloc_zeroed",
                                                "__rust_realloc",
                                                "__rdl_alloc",
                                                "__rdl_alloc_zeroed",
                                                "__rdl_realloc"};
  for (std::string_view known : kNames) {
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

// The frames that may be hidden at a leaf, each once.
class Leaves {
 public:
  explicit Leaves(Arena& arena) : leaves_(arena), index_(arena) {}

  void AddOf(std::span<const Frame> stack) {
    for (Frame frame : stack.first(std::min<size_t>(kHiddenLeafRoom, stack.size()))) {
      if (index_.Find(frame.value, [&](uint32_t i) { return leaves_[i] == frame; }) != HashIndex::kNone)
        continue;
      if (leaves_.Add(frame) && !index_.Add(frame.value, leaves_.size() - 1)) leaves_.RemoveLast();
    }
  }
  std::span<Frame> frames() { return leaves_.span(); }

 private:
  GrowingArray<Frame> leaves_;
  HashIndex index_;
};

// A stack whose leaf is the allocator's own says where in the allocator, which nobody asks: Go hides runtime.* likewise.
void HideAllocators(std::span<Frame> leaves, const ModuleTable& modules, Arena& arena, SampleTable* samples) {
  std::sort(leaves.begin(), leaves.end(), [](Frame a, Frame b) { return a.value < b.value; });
  auto* names = arena.AllocateArray<FunctionSymbol>(leaves.size());
  // Without memory they are shown.
  if (names == nullptr || !modules.NameFrames(leaves, {names, leaves.size()})) return;
  size_t hidden = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (IsAllocationFunction(names[i].name)) leaves[hidden++] = leaves[i];
  }
  samples->HideLeaves(leaves.first(hidden));
}

uint64_t CollectHeap(const LedgerView& ledger, ProfileKind kind, const ModuleTable& modules, Arena& arena,
                     SampleTable* samples) {
  Leaves leaves(arena);
  uint64_t damaged = ledger.ForEachHeapSite([&](const LedgerView::HeapSite& site) {
    SampleCounts counts;
    counts.first = kind == ProfileKind::kHeapPeak ? site.peak : site.allocations;
    counts.second = kind == ProfileKind::kHeapPeak ? 0 : site.inuse;
    counts.weight = Product(kind == ProfileKind::kHeap ? counts.second : counts.first, site.size);
    samples->Add(site.stack.frames, {{}, site.size}, counts);
    leaves.AddOf(site.stack.frames);
  });
  HideAllocators(leaves.frames(), modules, arena, samples);
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
                        Arena& arena, SampleTable* samples) {
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
      return CollectHeap(ledger, kind, modules, arena, samples);
    case ProfileKind::kBlock:
      return CollectContention(ledger, ContentionKind::kBlock, now, modules, arena, samples);
    case ProfileKind::kMutex:
      return CollectContention(ledger, ContentionKind::kMutex, now, modules, arena, samples);
  }
  return 0;
}

}  // namespace profagent
