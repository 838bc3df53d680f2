// What a fuzzer's bytes mean to the ledger's reader and to the encoder, and what must hold for any of them. Shared by
// the fuzzer and by a test of the ordinary run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "agent/encode/pprof_encoder.h"
#include "agent/encode/text_profile.h"
#include "agent/ledger/heap_sites.h"
#include "agent/ledger/ledger.h"
#include "proto/profile.pb.h"

namespace profagent {

// A promise was broken: the fuzzer takes an abort for a finding.
inline void Require(bool kept) {
  if (!kept) std::abort();
}

// A small ledger with some of everything, as words (so that it is aligned), up to its last used byte.
inline const std::vector<uint64_t>& WholeLedger() {
  static const std::vector<uint64_t> words = [] {
    Ledger ledger;
    Require(static_cast<bool>(ledger.CreateAnonymous(Bytes{kLedgerMinSize})));
    LedgerHeader* header = ledger.header();
    header->executable = ledger.InternText("/usr/bin/app").value;
    header->command_line = ledger.InternText("app -v").value;
    header->working_directory = ledger.InternText("/tmp").value;
    header->cpu_hz = 100;
    header->heap_rate = 64;
    header->max_depth = 2;
    header->block_rate = 100;
    header->mutex_fraction = 1;
    for (uint16_t id = 1; id <= 3; ++id) {
      ModuleDescription module{};
      uint8_t build_id[4] = {1, 2, 3, static_cast<uint8_t>(id)};
      module.id = ModuleId{id};
      module.flags = id == 1 ? kModuleIsProgram : 0;
      module.path = id == 1 ? "/usr/bin/app" : id == 2 ? "libfoo.so" : "[vdso]";
      module.build_id = build_id;
      module.load_bias = uint64_t{id} << 32;
      ledger.AddModule(module);
    }
    for (uint32_t tid = 1; tid < 5; ++tid) ledger.AddThread(tid, ledger.InternText("worker"));
    for (uint64_t i = 0; i < 40; ++i) {
      Frame frames[] = {Frame::Of(ModuleId{1}, 0x1000 + i), Frame::Of(ModuleId{2}, 0x2000 + i % 3),
                        MakeSynthetic(SyntheticFrame::kTruncated)};
      StackId stack = ledger.InternStack(std::span(frames).first(1 + i % 3), WalkEnd::kOutermost);
      ledger.header()->cpu_ticks += i + 1;
      ledger.AddCpuTicks(stack, ledger.InternText(i % 2 ? "odd" : "even"), i + 1);
      HeapSiteRecord* site = ledger.FindHeapSite(stack, Bytes{uint64_t{16} << (i % 4)});
      CountAllocation(header, site);
      if (i % 3 == 0) CountFree(header, site);
      ContentionSiteRecord* contention = ledger.FindContentionSite(
          i % 2 ? ContentionKind::kBlock : ContentionKind::kMutex, stack, ledger.InternText("global_mu"));
      contention->count = kContentionUnit * (i + 1);
      contention->nanos = 1000 * i;
      if (i % 16 != 1) continue;
      WaiterRecord* waiter = ledger.TakeWaiter(static_cast<uint32_t>(i + 1));
      waiter->since_ns = 1000 + i;
      waiter->site = ledger.IdOf(contention);
    }
    std::vector<uint64_t> copy(header->used / 8);
    std::memcpy(copy.data(), ledger.bytes().data(), copy.size() * 8);
    ledger.Close();
    return copy;
  }();
  return words;
}

inline void EncodeAs(ProfileKind kind, const LedgerView& view);

// Reads and encodes whatever `words` are, as every kind. What comes out must be a profile that a reader takes.
inline void ReadAndEncode(const std::vector<uint64_t>& words) {
  Result<LedgerView> view = LedgerView::Over(std::as_bytes(std::span(words)));
  if (!view) return;
  uint64_t bytes = 0;
  view->ForEachModule([&](const LedgerView::Module& module) { bytes += module.path.size(); });
  view->ForEachThread([&](const LedgerView::Thread& thread) { bytes += thread.name.size(); });
  view->ForEachCpuSite(
      [&](const LedgerView::CpuSite& site) { bytes += site.stack.frames.size() + site.name.size(); });
  for (ProfileKind kind : {ProfileKind::kCpu, ProfileKind::kHeap, ProfileKind::kAllocs,
                           ProfileKind::kHeapPeak, ProfileKind::kBlock, ProfileKind::kMutex}) {
    EncodeAs(kind, *view);
  }
}

inline void EncodeAs(ProfileKind kind, const LedgerView& view) {
  Arena arena(64 << 20);
  std::string encoded;
  auto append = [&](std::span<const std::byte> part) {
    encoded.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  EncodeRequest request;
  request.kind = kind;
  request.end_monotonic = Nanos{1'000'000};
  (void)EncodeText(view, request, NoSymbols, arena, [](std::span<const std::byte>) { return true; });
  if (!EncodeProfile(view, request, NoSymbols, arena, append)) return;
  perftools::profiles::Profile profile;
  Require(profile.ParseFromString(encoded));
  Require(profile.mapping_size() >= 1 && profile.string_table_size() >= 1 && profile.string_table(0).empty());
  auto text = [&](int64_t i) { Require(i >= 0 && i < profile.string_table_size()); };
  for (const auto& sample : profile.sample()) {
    Require(sample.value_size() == profile.sample_type_size());
    for (int64_t value : sample.value()) Require(value >= 0);
    for (uint64_t id : sample.location_id()) {
      Require(id >= 1 && id <= static_cast<uint64_t>(profile.location_size()));
    }
    for (const auto& label : sample.label()) text(label.key()), text(label.str());
  }
  for (const auto& location : profile.location()) {
    Require(location.mapping_id() <= static_cast<uint64_t>(profile.mapping_size()));
    for (const auto& line : location.line()) {
      Require(line.function_id() >= 1 &&
              line.function_id() <= static_cast<uint64_t>(profile.function_size()));
    }
  }
  for (const auto& function : profile.function()) text(function.name()), text(function.system_name());
  for (const auto& mapping : profile.mapping()) text(mapping.filename()), text(mapping.build_id());
  for (int64_t comment : profile.comment()) text(comment);
}

// The first byte says how to take the rest: as a ledger (with the magic and the version put right, which no fuzzer
// needs to guess), or as edits of a whole one, each a place (16 bits, in units of 4 bytes) and 32 bits to put there.
inline void TakeLedgerInput(std::span<const uint8_t> input) {
  if (input.empty()) return;
  uint8_t mode = input[0];
  input = input.subspan(1);
  if (mode % 2 == 0) {
    std::vector<uint64_t> words(input.size() / 8);
    if (!words.empty()) std::memcpy(words.data(), input.data(), words.size() * 8);
    if (mode % 4 == 0 && words.size() >= 2) {
      words[0] = kLedgerMagic;
      words[1] = uint64_t{sizeof(LedgerHeader)} << 32 | kLedgerVersion;
    }
    ReadAndEncode(words);
    return;
  }
  std::vector<uint64_t> words = WholeLedger();
  for (; input.size() >= 6; input = input.subspan(6)) {
    uint16_t place;
    std::memcpy(&place, input.data(), sizeof place);
    size_t at = size_t{place} * 4;
    if (at + 4 > words.size() * 8) {
      words.resize(place % words.size() + 1);  // a place outside cuts the ledger
      continue;
    }
    std::memcpy(reinterpret_cast<char*>(words.data()) + at, input.data() + 2, 4);
  }
  ReadAndEncode(words);
}

}  // namespace profagent
