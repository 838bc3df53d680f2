// A ledger made by hand, and its profile as a reader that we did not write sees it.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "agent/encode/pprof_encoder.h"
#include "agent/ledger/ledger.h"
#include "proto/profile.pb.h"

namespace profagent {

using perftools::profiles::Profile;

class TestLedger {
 public:
  explicit TestLedger(uint64_t size = kLedgerMinSize) {
    EXPECT_TRUE(ledger_.CreateAnonymous(Bytes{size}));
    LedgerHeader* header = ledger_.header();
    header->pid = 4711;
    header->executable = Text("/usr/bin/app");
    header->program = Text("app");
    header->command_line = Text("app --fast input");
    header->working_directory = Text("/home/user");
    header->agent_version = Text("0.1.0");
    header->cpu_hz = 100;
    header->cpu_engine = static_cast<uint32_t>(CpuEngine::kThreadTimers);
    header->cpu_start_realtime_ns = 1'700'000'000'000'000'000;
    header->cpu_start_monotonic_ns = 5'000'000'000;
  }
  ~TestLedger() { ledger_.Close(); }

  void AddProgramAndLibrary() {
    AddModule(1, kModuleIsProgram, "/usr/bin/app", 0x555500000000, {0xab, 0xcd, 0xef});
    AddModule(2, 0, "libfoo.so", 0x7f0000000000, {0x01, 0x02});
  }
  void AddModule(uint16_t id, uint16_t flags, std::string_view path, uint64_t bias,
                 std::vector<uint8_t> build_id) {
    ModuleDescription module{};
    module.id = ModuleId{id};
    module.flags = flags;
    module.path = path;
    module.build_id = build_id;
    module.load_bias = module.start = bias;
    module.limit = bias + 0x9000;
    module.text_start = bias + 0x1040;  // as a PT_LOAD may start: not on a page
    module.text_limit = bias + 0x8123;
    module.text_file_offset = 0x1040;
    ASSERT_TRUE(ledger_.AddModule(module));
  }
  // A further executable segment of a module.
  void AddMoreText(uint16_t id, uint64_t start, uint64_t limit, uint64_t file_offset) {
    ModuleDescription module{};
    module.id = ModuleId{id};
    module.flags = kModuleMoreText;
    module.path = "/usr/bin/app";
    module.text_start = start;
    module.text_limit = limit;
    module.text_file_offset = file_offset;
    ASSERT_TRUE(ledger_.AddModule(module));
  }
  void Add(std::vector<Frame> frames, std::string_view thread, uint64_t ticks,
           WalkEnd end = WalkEnd::kOutermost) {
    ledger_.header()->cpu_ticks += ticks;
    ASSERT_TRUE(ledger_.AddCpuTicks(ledger_.InternStack(frames, end), ledger_.InternText(thread), ticks));
  }
  RecordId Text(std::string_view text) { return ledger_.InternText(text).value; }
  Ledger& ledger() { return ledger_; }
  LedgerView view() const { return *LedgerView::Over(ledger_.bytes()); }

 private:
  Ledger ledger_;
};

inline Frame In(uint16_t module, uint64_t offset) { return Frame::Of(ModuleId{module}, offset); }

inline EncodeRequest RequestEndingAt(uint64_t monotonic_ns) {
  EncodeRequest request;
  request.end_monotonic = Nanos{monotonic_ns};
  return request;
}

inline std::string Encode(const LedgerView& view,
                          const EncodeRequest& request = RequestEndingAt(8'000'000'000),
                          SymbolSource symbols = NoSymbols) {
  Arena arena;
  std::string bytes;
  auto sink = [&](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  Status status = EncodeProfile(view, request, symbols, arena, sink);
  EXPECT_TRUE(status) << status.error().text.view();
  return bytes;
}

inline std::string EncodeGzip(const LedgerView& view, const EncodeRequest& request,
                              SymbolSource symbols = NoSymbols) {
  Arena arena;
  std::string bytes;
  auto sink = [&](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  Status status = EncodeProfileGzip(view, request, symbols, arena, sink);
  EXPECT_TRUE(status) << status.error().text.view();
  return bytes;
}

inline Profile Parse(const std::string& bytes) {
  Profile profile;
  EXPECT_TRUE(profile.ParseFromString(bytes));
  return profile;
}

inline std::string FunctionName(const Profile& profile, uint64_t location_id) {
  const auto& location = profile.location(static_cast<int>(location_id - 1));
  EXPECT_EQ(location.line_size(), 1);
  const auto& function = profile.function(static_cast<int>(location.line(0).function_id() - 1));
  EXPECT_EQ(function.name(), function.system_name());
  return profile.string_table(static_cast<int>(function.name()));
}

inline std::vector<std::string> Comments(const Profile& profile) {
  std::vector<std::string> comments;
  for (int64_t comment : profile.comment())
    comments.push_back(profile.string_table(static_cast<int>(comment)));
  return comments;
}

inline bool HasComment(const Profile& profile, std::string_view start) {
  auto comments = Comments(profile);
  return std::any_of(comments.begin(), comments.end(),
                     [&](const std::string& c) { return c.starts_with(start); });
}

}  // namespace profagent
