#include "agent/ledger/heap_sites.h"

namespace profagent {
namespace {

PROF_ALWAYS_INLINE void SaveForPeak(LedgerHeader* header, HeapSiteRecord* site) {
  uint64_t peak = header->heap_peak.load(std::memory_order_acquire);
  uint64_t saved = site->peak.load(std::memory_order_relaxed);
  if (saved == peak) return;
  uint64_t live =
      site->allocations.load(std::memory_order_relaxed) - site->frees.load(std::memory_order_relaxed);
  // One of several threads saves. release: a reader that sees the number finds the objects no older than it.
  if (site->peak.compare_exchange_strong(saved, peak, std::memory_order_acq_rel)) {
    site->peak_objects.store(live, std::memory_order_release);
  }
}

}  // namespace

void CountAllocation(LedgerHeader* header, HeapSiteRecord* site) {
  if (header->heap_at_peak.load(std::memory_order_relaxed) == 0) SaveForPeak(header, site);
  site->allocations.fetch_add(1, std::memory_order_relaxed);
  uint64_t inuse = header->heap_inuse.fetch_add(site->weight, std::memory_order_relaxed) + site->weight;
  if (inuse > header->heap_highest.load(std::memory_order_relaxed) &&
      header->heap_at_peak.load(std::memory_order_relaxed) == 0) {
    header->heap_at_peak.store(1, std::memory_order_relaxed);
  }
}

void CountFree(LedgerHeader* header, HeapSiteRecord* site) {
  if (header->heap_at_peak.load(std::memory_order_relaxed) != 0 &&
      header->heap_at_peak.exchange(0, std::memory_order_acq_rel) != 0) {
    header->heap_highest.store(header->heap_inuse.load(std::memory_order_relaxed), std::memory_order_relaxed);
    header->heap_peak.fetch_add(1, std::memory_order_acq_rel);
  }
  SaveForPeak(header, site);
  header->heap_inuse.fetch_sub(site->weight, std::memory_order_relaxed);
  // release: the allocation that it belongs to is counted (a reader loads frees first).
  site->frees.fetch_add(1, std::memory_order_release);
}

}  // namespace profagent
