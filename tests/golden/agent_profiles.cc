#include "tests/golden/agent_profiles.h"

#include <iterator>
#include <span>
#include <string_view>

#include "agent/encode/pprof_encoder.h"
#include "agent/ledger/heap_sites.h"
#include "agent/ledger/ledger.h"

namespace profagent {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

// Functions of the program, a page each.
constexpr std::string_view kFunctions[] = {"main", "_ZN5Cache4growEm", "parse",
                                           "_ZNSt6vectorIiSaIiEE7reserveEm", "work"};
enum Function : uint64_t { kMain, kGrow, kParse, kReserve, kWork };

Frame At(Function function, uint64_t offset) {
  return Frame::Of(ModuleId{1}, ((function + 1) << 12) + offset);
}

void Names(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  for (size_t i = 0; i < names.size(); ++i) {
    const uint64_t page = request.addresses[i] >> 12;
    if (page >= 1 && page <= std::size(kFunctions)) names[i] = {kFunctions[page - 1], page << 12};
  }
}

class HandMadeLedger {
 public:
  HandMadeLedger() : made_(ledger_.CreateAnonymous(Bytes{kLedgerMinSize})) {
    if (!made_) return;
    LedgerHeader* header = ledger_.header();
    header->pid = 4711;
    header->start_realtime_ns = 1'700'000'000 * kSecond;
    header->start_monotonic_ns = 5 * kSecond;
    header->executable = Text("/usr/bin/app").value;
    header->program = Text("app").value;
    header->command_line = Text("app --fast input").value;
    header->agent_version = Text("0.1.0").value;
    header->max_depth = 128;
    header->heap_rate = 512 * 1024;
    header->block_rate = 10'000;
    header->mutex_fraction = 10;
    AddProgram();
    AddHeap();
    AddWaits();
  }
  ~HandMadeLedger() {
    if (made_) ledger_.Close();
  }
  HandMadeLedger(const HandMadeLedger&) = delete;
  HandMadeLedger& operator=(const HandMadeLedger&) = delete;

  std::string File(ProfileKind kind) const {
    std::string bytes;
    auto append = [&](std::span<const std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
      return true;
    };
    Result<LedgerView> view = LedgerView::Over(ledger_.bytes());
    if (!made_ || !view) return {};
    Arena arena;
    EncodeRequest request;
    request.kind = kind;
    request.end_monotonic = Nanos{9 * kSecond};
    return EncodeProfileGzip(*view, request, Names, arena, append) ? bytes : "";
  }

 private:
  TextId Text(std::string_view text) { return ledger_.InternText(text); }

  void AddProgram() {
    static constexpr uint8_t kBuildId[] = {0xab, 0xcd, 0xef, 0x01};
    ModuleDescription program{};
    program.id = ModuleId{1};
    program.flags = kModuleIsProgram;
    program.path = "/usr/bin/app";
    program.build_id = kBuildId;
    program.load_bias = program.start = 0x555500000000;
    program.limit = program.start + 0x9000;
    program.text_start = program.start + 0x1000;
    program.text_limit = program.start + 0x8000;
    program.text_file_offset = 0x1000;
    ledger_.AddModule(program);
  }

  void AddBlocks(std::span<const Frame> stack, uint64_t size, int allocated, int freed) {
    HeapSiteRecord* site = ledger_.FindHeapSite(ledger_.InternStack(stack, WalkEnd::kOutermost), Bytes{size});
    for (int i = 0; i < allocated; ++i) CountAllocation(ledger_.header(), site);
    for (int i = 0; i < freed; ++i) CountFree(ledger_.header(), site);
  }
  // One stack with blocks of several sizes, one whose blocks are all gone, one at an address without a name.
  void AddHeap() {
    const Frame grow[] = {At(kGrow, 0x10), At(kWork, 0x20), At(kMain, 0x30)};
    const Frame parse[] = {At(kReserve, 0x44), At(kParse, 0x50), At(kMain, 0x38)};
    const Frame nameless[] = {Frame::Of(ModuleId{1}, 0x7123), At(kMain, 0x40)};
    AddBlocks(parse, 4096, 9, 9);
    AddBlocks(grow, 64, 5, 1);
    AddBlocks(grow, 1 << 20, 3, 1);
    AddBlocks(nameless, 300'000, 2, 0);
  }

  void AddContention(ContentionKind kind, Primitive primitive, Function function, std::string_view lock,
                     uint64_t count, uint64_t nanos) {
    const Frame frames[] = {PrimitiveFrame(primitive), At(function, 0x60), At(kMain, 0x30)};
    ContentionSiteRecord* site = ledger_.FindContentionSite(
        kind, ledger_.InternStack(frames, WalkEnd::kOutermost), lock.empty() ? TextId{} : Text(lock));
    site->count = count * kContentionUnit;
    site->nanos = nanos;
  }
  // Leaves that are in no mapping, with and without the name of the lock.
  void AddWaits() {
    AddContention(ContentionKind::kBlock, Primitive::kMutexLock, kWork, "global_mu", 12, 2'500'000);
    AddContention(ContentionKind::kBlock, Primitive::kMutexLock, kWork, "heap", 1, 40'000);
    AddContention(ContentionKind::kBlock, Primitive::kCondWait, kParse, "", 3, 7 * kSecond);
    AddContention(ContentionKind::kMutex, Primitive::kMutexUnlock, kWork, "global_mu", 12, 2'500'000);
    AddContention(ContentionKind::kMutex, Primitive::kRwlockUnlock, kGrow, "", 1, 900);
  }

  Ledger ledger_;
  bool made_;
};

}  // namespace

std::vector<AgentProfile> AgentProfiles() {
  const HandMadeLedger ledger;
  return {{"agent_heap", ledger.File(ProfileKind::kHeap)},
          {"agent_allocs", ledger.File(ProfileKind::kAllocs)},
          {"agent_heap_peak", ledger.File(ProfileKind::kHeapPeak)},
          {"agent_block", ledger.File(ProfileKind::kBlock)},
          {"agent_mutex", ledger.File(ProfileKind::kMutex)}};
}

}  // namespace profagent
