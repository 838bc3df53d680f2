// What it costs to write a profile of 100 000 distinct stacks: must stay <= 300 ms (design.md, section 4).
//
// Each stack is 10 to 50 frames deep, in 30 000 distinct places of 12 modules: more places than a program of clang's
// size shows in an hour. A heap stack has 1.2 sizes (with clang: 110 000 stacks, 130 000 samples), and operator new at
// its leaf, which is hidden.
// Run: build/tests/bench/encode_bench. Compare within one run only.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "agent/encode/pprof_encoder.h"
#include "agent/ledger/heap_sites.h"
#include "agent/ledger/ledger.h"

namespace profagent {
namespace {

constexpr int kStacks = 100'000;
constexpr uint64_t kPlacesPerModule = 2'500;
constexpr uint16_t kModules = 12;
constexpr size_t kShallowest = 10, kDeepest = 50;
constexpr uint64_t kNewPlace = kPlacesPerModule;  // of module 1, behind all others

Frame PlaceIn(ModuleId module, uint64_t number) { return Frame::Of(module, 0x1000 + number * 64); }

Ledger& BigLedger() {
  static Ledger ledger = [] {
    Ledger made;
    if (!made.CreateAnonymous(Bytes{kLedgerDefaultSize})) std::abort();
    for (uint16_t id = 1; id <= kModules; ++id) {
      ModuleDescription module{};
      module.id = ModuleId{id};
      module.flags = id == 1 ? kModuleIsProgram : 0;
      std::string path = "/usr/lib/libmodule" + std::to_string(id) + ".so";
      module.path = path;
      module.load_bias = uint64_t{id} << 40;
      made.AddModule(module);
    }
    // A call tree as programs have it: each stack leaves an earlier one some frames above its leaf and goes another
    // way from there, to places of which a few are met far more often than the rest.
    std::mt19937_64 random(42);
    auto place = [&] {
      uint64_t number = random() % (kModules * kPlacesPerModule);
      if (random() % 2) number = number * number / (kModules * kPlacesPerModule);
      return PlaceIn(ModuleId{static_cast<uint16_t>(1 + number % kModules)}, number / kModules);
    };
    std::vector<std::vector<Frame>> stacks;  // root first
    std::vector<Frame> leaf_first;
    while (stacks.size() < kStacks) {
      std::vector<Frame> stack;
      if (!stacks.empty()) stack = stacks[random() % stacks.size()];
      size_t kept = stack.size() - std::min<size_t>(stack.size(), random() % 8);
      size_t added = 1 + random() % 8;
      if (kept + added > kDeepest) kept = kDeepest - added;
      stack.resize(kept);
      while (stack.size() < std::max<size_t>(kept + added, kShallowest)) stack.push_back(place());
      leaf_first.assign(stack.rbegin(), stack.rend());
      ++made.header()->cpu_ticks;  // not 0: there are samples
      made.AddCpuTicks(made.InternStack(leaf_first, WalkEnd::kOutermost), kNoText, 1 + random() % 4);
      leaf_first.insert(leaf_first.begin(), PlaceIn(ModuleId{1}, kNewPlace));
      StackId allocates = made.InternStack(leaf_first, WalkEnd::kOutermost);
      for (int sizes = random() % 5 == 0 ? 2 : 1; sizes > 0; --sizes) {
        HeapSiteRecord* site = made.FindHeapSite(allocates, Bytes{uint64_t{16} << random() % 8});
        if (site == nullptr) std::abort();
        CountAllocation(made.header(), site);
        if (random() % 2) CountFree(made.header(), site);
      }
      stacks.push_back(std::move(stack));
    }
    return made;
  }();
  return ledger;
}

// Names as long as C++ has them.
void Names(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> made;
    for (uint64_t i = 0; i < kPlacesPerModule; ++i) {
      made.push_back("_ZN4llvm12_GLOBAL__N_1L20someFunctionOfNumber" + std::to_string(i) +
                     "ERKNS_8FunctionERNS_5ValueE");
    }
    made.push_back("_Znwm");
    return made;
  }();
  for (size_t i = 0; i < names.size(); ++i)
    names[i].name = all[(request.addresses[i] - 0x1000) / 64 % all.size()];
}

template <ProfileKind kKind, auto kEncode>
void WriteProfile(benchmark::State& state) {
  Result<LedgerView> view = LedgerView::Over(BigLedger().bytes());
  size_t bytes = 0, memory = 0;
  for (auto _ : state) {
    Arena arena;
    bytes = 0;
    EncodeRequest request{};
    request.kind = kKind;
    Status status = kEncode(*view, request, Names, arena, [&](std::span<const std::byte> part) {
      bytes += part.size();
      return true;
    });
    if (!status) state.SkipWithError("failed");
    memory = arena.taken();
  }
  state.counters["bytes"] = static_cast<double>(bytes);
  state.counters["arena_bytes"] = static_cast<double>(memory);
}
constexpr ProfileKind kCpu = ProfileKind::kCpu, kHeap = ProfileKind::kHeap;
BENCHMARK(WriteProfile<kCpu, EncodeProfile>)
    ->Name("cpu, 100000 stacks, plain")
    ->Unit(benchmark::kMillisecond);
BENCHMARK(WriteProfile<kCpu, EncodeProfileGzip>)
    ->Name("cpu, 100000 stacks, gzip")
    ->Unit(benchmark::kMillisecond);
BENCHMARK(WriteProfile<kHeap, EncodeProfile>)
    ->Name("heap, 100000 stacks, plain")
    ->Unit(benchmark::kMillisecond);
BENCHMARK(WriteProfile<kHeap, EncodeProfileGzip>)
    ->Name("heap, 100000 stacks, gzip")
    ->Unit(benchmark::kMillisecond);

// For scale: only looking at every record.
void ReadLedger(benchmark::State& state) {
  Result<LedgerView> view = LedgerView::Over(BigLedger().bytes());
  uint64_t ticks = 0;
  for (auto _ : state) {
    view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { ticks += site.ticks; });
    benchmark::DoNotOptimize(ticks);
  }
}
BENCHMARK(ReadLedger)->Name("read 100000 stacks")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace profagent

BENCHMARK_MAIN();
