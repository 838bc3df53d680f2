#include "agent/encode/pprof_encoder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "agent/ledger/heap_sites.h"
#include "tests/unit/encode/test_ledger.h"

namespace profagent {
namespace {

// A source that knows the function of every address: f1000, f2000... by pages of 4 KiB.
void PageNames(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  static constexpr std::string_view kNames[] = {"_ZN3app4workEv", "_ZN3app4mainEv", "memcpy", "deep.part.0"};
  for (size_t i = 0; i < names.size(); ++i) {
    uint64_t page = request.addresses[i] >> 12;
    if (page < 4) names[i].name = kNames[page];
  }
}

TEST(PprofEncoder, WritesWhatGoWrites) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({In(2, 0x2100), In(1, 0x1234)}, "worker", 3);
  ledger.Add({In(1, 0x1234)}, "", 5);
  Profile profile = Parse(Encode(ledger.view(), RequestEndingAt(8'000'000'000), PageNames));

  auto text = [&](int64_t i) { return profile.string_table(static_cast<int>(i)); };
  EXPECT_EQ(text(0), "");
  ASSERT_EQ(profile.sample_type_size(), 2);
  EXPECT_EQ(text(profile.sample_type(0).type()), "samples");
  EXPECT_EQ(text(profile.sample_type(0).unit()), "count");
  EXPECT_EQ(text(profile.sample_type(1).type()), "cpu");
  EXPECT_EQ(text(profile.sample_type(1).unit()), "nanoseconds");
  EXPECT_EQ(text(profile.period_type().type()), "cpu");
  EXPECT_EQ(text(profile.period_type().unit()), "nanoseconds");
  EXPECT_EQ(profile.period(), 10'000'000);
  EXPECT_EQ(profile.time_nanos(), 1'700'000'000'000'000'000);
  EXPECT_EQ(profile.duration_nanos(), 3'000'000'000);
  EXPECT_EQ(profile.default_sample_type(), 0);

  ASSERT_EQ(profile.sample_size(), 2);
  EXPECT_EQ(profile.sample(0).value(0), 5);
  EXPECT_EQ(profile.sample(0).value(1), 50'000'000);
  EXPECT_EQ(profile.sample(0).label_size(), 0);
  EXPECT_EQ(profile.sample(1).value(0), 3);
  ASSERT_EQ(profile.sample(1).label_size(), 1);
  EXPECT_EQ(text(profile.sample(1).label(0).key()), "thread");
  EXPECT_EQ(text(profile.sample(1).label(0).str()), "worker");
  ASSERT_EQ(profile.sample(1).location_id_size(), 2);
  EXPECT_EQ(FunctionName(profile, profile.sample(1).location_id(0)), "memcpy");
  EXPECT_EQ(FunctionName(profile, profile.sample(1).location_id(1)), "_ZN3app4mainEv");

  ASSERT_EQ(profile.mapping_size(), 2);
  EXPECT_EQ(text(profile.mapping(0).filename()), "/usr/bin/app");
  EXPECT_EQ(text(profile.mapping(0).build_id()), "abcdef");
  EXPECT_EQ(profile.mapping(0).memory_start(), 0x555500001000u);  // whole pages, as in /proc/self/maps
  EXPECT_EQ(profile.mapping(0).memory_limit(), 0x555500009000u);
  EXPECT_EQ(profile.mapping(0).file_offset(), 0x1000u);
  EXPECT_TRUE(profile.mapping(0).has_functions());
  EXPECT_FALSE(profile.mapping(0).has_line_numbers());
  EXPECT_EQ(text(profile.mapping(1).filename()), "/home/user/libfoo.so");
  ASSERT_EQ(profile.location_size(), 2);
  EXPECT_EQ(profile.location(0).address(), 0x555500001234u);
  EXPECT_EQ(profile.location(1).address(), 0x7f0000002100u);
  EXPECT_EQ(profile.location(1).mapping_id(), 2u);
}

// Our writer against the protobuf library's: what it reads and writes again must be the same bytes.
TEST(PprofEncoder, WritesTheBytesThatTheProtobufLibraryWrites) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::vector<Frame> frames;
    for (size_t depth = 1 + random() % 8; depth > 0; --depth) {
      frames.push_back(In(static_cast<uint16_t>(random() % 3), 0x1000 + random() % 0x7000));
    }
    ledger.Add(frames, i % 3 ? "worker" : "", 1 + random() % 100);
  }
  std::string bytes = Encode(ledger.view(), RequestEndingAt(9'000'000'000), PageNames);
  EXPECT_EQ(Parse(bytes).SerializeAsString(), bytes);
}

// A change of these bytes is a change of what every reader gets: it must be meant.
TEST(PprofEncoder, KeepsItsBytes) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({In(1, 0x1234)}, "t", 2);
  std::string bytes = Encode(ledger.view(), RequestEndingAt(6'000'000'000), PageNames);
  std::string hex;
  for (unsigned char c : bytes) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", c);
    hex += digits;
  }
  // clang-format off
  EXPECT_EQ(hex,
            "0a0408011002"                                        // sample_type samples/count
            "0a0408031004"                                        // sample_type cpu/nanoseconds
            "12100a0101" "12050280dac409" "1a0408051006"          // sample: location 1, {2, 20000000}, thread=t
            "1a1b0801" "1080a08080d0aa15" "1880a08280d0aa15"      // mapping 1: start, limit
            "208020" "2807" "3008" "3801"                         // offset, file, build-id, has_functions
            "22100801" "1001" "18b4a48080d0aa15" "22020801"       // location 1: mapping, address, function
            "2a06080110091809"                                    // function 1: name = system_name
            "3200" "320773616d706c6573" "3205636f756e74"          // "", samples, count
            "3203637075" "320b6e616e6f7365636f6e6473"             // cpu, nanoseconds
            "3206746872656164" "320174"                           // thread, t
            "320c2f7573722f62696e2f617070" "3206616263646566"     // /usr/bin/app, abcdef
            "320e5f5a4e33617070346d61696e4576"                    // _ZN3app4mainEv
            "3211232070726f666167656e7420302e312e30"              // "# profagent 0.1.0"
            "321b2320636f6d6d616e643a20617070202d2d6661737420696e707574"  // "# command: app --fast input"
            "320b23207069643a2034373131"                          // "# pid: 4711"
            "321c23206370753a2031303020487a2c207468726561642074696d657273"  // "# cpu: 100 Hz, thread timers"
            "488080a8b1e39fe7cb17" "508094ebdc03"                   // time, duration
            "5a0408031004" "6080ade204"                           // period_type, period
            "6a040a0b0c0d");                                      // comments
  // clang-format on
}

TEST(PprofEncoder, NamesWhatHasNoSymbol) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({Frame::Of(ModuleId::kNone, 0x7f0012345678), In(2, 0x7777), In(9, 0x42),
              MakeSynthetic(SyntheticFrame::kTruncated)},
             "", 1, WalkEnd::kDepthLimit);
  Profile profile = Parse(Encode(ledger.view()));
  ASSERT_EQ(profile.sample_size(), 1);
  std::vector<std::string> names;
  for (uint64_t id : profile.sample(0).location_id()) names.push_back(FunctionName(profile, id));
  EXPECT_EQ(names, (std::vector<std::string>{"0x7f0012345678", "libfoo.so+0x7777", "[module 9]+0x42",
                                             "[truncated]"}));
  auto location = [&](int i) {
    return profile.location(static_cast<int>(profile.sample(0).location_id(i) - 1));
  };
  EXPECT_EQ(location(0).address(), 0x7f0012345678u);
  EXPECT_EQ(location(0).mapping_id(), 0u);
  EXPECT_EQ(location(3).address(), 0u);
  EXPECT_EQ(location(3).mapping_id(), 0u);
}

// pprof takes mapping[0] for the program, whatever library was sampled first.
TEST(PprofEncoder, PutsTheProgramFirstAndLeavesOutWhatNoSampleMet) {
  TestLedger ledger;
  ledger.AddModule(1, 0, "/lib/ld.so", 0x1000000, {});
  ledger.AddModule(2, 0, "/lib/libused.so", 0x2000000, {});
  ledger.AddModule(3, kModuleIsProgram, "/usr/bin/app", 0x400000, {});
  ledger.Add({In(2, 0x2000)}, "", 1);
  Profile profile = Parse(Encode(ledger.view()));
  ASSERT_EQ(profile.mapping_size(), 2);
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(0).filename())), "/usr/bin/app");
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(1).filename())), "/lib/libused.so");
  EXPECT_EQ(profile.location(0).mapping_id(), 2u);
}

// The kernel's name of a file that was replaced meanwhile, and the loader's of a relative LD_LIBRARY_PATH.
TEST(PprofEncoder, NamesFilesAsTheyWereCalled) {
  TestLedger ledger;
  ledger.AddModule(1, kModuleIsProgram, "/usr/bin/app (deleted)", 0x400000, {});
  ledger.AddModule(2, 0, "lib/libone.so", 0x1000000, {});
  ledger.Add({In(2, 0x2000)}, "", 1);
  Profile profile = Parse(Encode(ledger.view()));
  ASSERT_EQ(profile.mapping_size(), 2);
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(0).filename())), "/usr/bin/app");
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(1).filename())),
            "/home/user/lib/libone.so");
}

// Each segment has its own distance between address and file: readers convert by the mapping that a location names.
TEST(PprofEncoder, WritesAMappingForEachExecutableSegment) {
  TestLedger ledger;
  ledger.AddModule(1, kModuleIsProgram, "/usr/bin/app", 0x400000, {});
  ledger.AddMoreText(1, 0x600123, 0x600456, 0x9123);
  ledger.AddMoreText(1, 0x800000, 0x801800, 0xa000);
  ledger.AddModule(2, 0, "/lib/libone.so", 0x1000000, {});
  ledger.Add({In(1, 0x600200 - 0x400000), In(2, 0x1100), In(1, 0x1100), In(1, 0x8800)}, "", 1);
  Profile profile = Parse(Encode(ledger.view()));
  struct {
    uint64_t start, limit, offset;
    const char* file;
  } expected[] = {
      {0x401000, 0x409000, 0x1000, "/usr/bin/app"},
      {0x600000, 0x601000, 0x9000, "/usr/bin/app"},
      {0x800000, 0x802000, 0xa000, "/usr/bin/app"},
      {0x1001000, 0x1009000, 0x1000, "/lib/libone.so"},
  };
  ASSERT_EQ(profile.mapping_size(), 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(profile.mapping(i).id(), static_cast<uint64_t>(i) + 1);
    EXPECT_EQ(profile.mapping(i).memory_start(), expected[i].start);
    EXPECT_EQ(profile.mapping(i).memory_limit(), expected[i].limit);
    EXPECT_EQ(profile.mapping(i).file_offset(), expected[i].offset);
    EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(i).filename())), expected[i].file);
  }
  uint64_t mappings[] = {1, 1, 4, 2};  // from the root, which is outside of all segments
  for (int i = 0; i < 4; ++i) EXPECT_EQ(profile.location(i).mapping_id(), mappings[i]) << i;
  for (const std::string& text : profile.string_table()) EXPECT_EQ(text.find("damaged"), text.npos) << text;
}

TEST(PprofEncoder, WritesAValidProfileOfNothing) {
  TestLedger ledger;
  Profile profile = Parse(Encode(ledger.view()));
  EXPECT_EQ(profile.sample_size(), 0);
  EXPECT_EQ(profile.sample_type_size(), 2);
  ASSERT_EQ(profile.mapping_size(), 1);
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(0).filename())), "/usr/bin/app");
}

TEST(PprofEncoder, AddsUpStacksThatDifferOnlyInTheEndOfTheirWalk) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({In(1, 0x1234)}, "t", 2, WalkEnd::kOutermost);
  ledger.Add({In(1, 0x1234)}, "t", 3, WalkEnd::kUnreadable);
  ledger.Add({In(1, 0x1234)}, "u", 4, WalkEnd::kUnreadable);
  Profile profile = Parse(Encode(ledger.view()));
  ASSERT_EQ(profile.sample_size(), 2);
  EXPECT_EQ(profile.sample(0).value(0), 5);
  EXPECT_EQ(profile.sample(1).value(0), 4);
  EXPECT_EQ(profile.location_size(), 1);
}

// Recursion is many frames at one location; a reader that saw them folded would lose the depth.
TEST(PprofEncoder, KeepsEveryFrameOfARecursion) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add(std::vector<Frame>(100, In(1, 0x1234)), "", 1);
  Profile profile = Parse(Encode(ledger.view()));
  EXPECT_EQ(profile.sample(0).location_id_size(), 100);
  EXPECT_EQ(profile.location_size(), 1);
}

// The start routine of every thread runs under a function of ours; the user never wrote it.
TEST(PprofEncoder, HidesTheAgentsOwnFrames) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.AddModule(3, kModuleIsAgent, "/usr/lib/libprofagent.so", 0x7e0000000000, {});
  ledger.Add({In(3, 0x1), In(1, 0x1234), In(3, 0x2), In(2, 0x5)}, "", 2);
  ledger.Add({In(1, 0x1234), In(2, 0x5)}, "", 3);
  ledger.Add({In(3, 0x1)}, "", 1);
  Profile profile = Parse(Encode(ledger.view()));
  ASSERT_EQ(profile.sample_size(), 2);
  EXPECT_EQ(profile.sample(0).value(0), 5);
  EXPECT_EQ(profile.sample(0).location_id_size(), 2);
  EXPECT_EQ(FunctionName(profile, profile.sample(1).location_id(0)),
            "libprofagent.so+0x1");  // nothing else is left
}

// The same was recorded in the same order, but hash chains hang another way: the file must not show it.
TEST(PprofEncoder, GivesEqualBytesWhateverTheHashChains) {
  struct Site {
    std::vector<Frame> frames;
    std::string name;
    uint64_t ticks;
  };
  std::vector<Site> sites;
  std::mt19937_64 random(7);
  for (int i = 0; i < 1500; ++i) {
    Site site{{}, "t" + std::to_string(random() % 5), 1 + random() % 3};
    for (size_t depth = 1 + random() % 4; depth > 0; --depth) {
      site.frames.push_back(In(static_cast<uint16_t>(1 + random() % 2), 0x1000 + random() % 64));
    }
    sites.push_back(site);
  }
  std::string first;
  for (uint64_t size : {2, 4, 16, 64}) {  // MiB: buckets enough, or few with long chains
    TestLedger ledger(size << 20);
    ledger.AddProgramAndLibrary();
    for (const Site& site : sites) {
      for (uint64_t i = 0; i < site.ticks; ++i) ledger.Add(site.frames, site.name, 1);
    }
    std::string bytes = Encode(ledger.view(), RequestEndingAt(1), PageNames);
    if (first.empty()) first = bytes;
    EXPECT_EQ(bytes, first);
  }
}

TEST(PprofEncoder, TellsWhatWasMeasuredHowAndWhatIsMissing) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.ledger().Count(Loss::kStackDepthLimit, 17);
  EncodeRequest request;
  std::string_view extra[] = {"killed by signal 9"};
  request.comments = extra;
  Profile profile = Parse(Encode(ledger.view(), request));
  EXPECT_EQ(Comments(profile),
            (std::vector<std::string>{
                "# profagent 0.1.0", "# command: app --fast input", "# pid: 4711",
                "# cpu: 100 Hz, thread timers", "killed by signal 9",
                ("stacks_depth_limit=17 (stacks cut at PROFAGENT_MAXDEPTH: the sample counts, its "
                 "root side is missing)")}));
  EXPECT_EQ(profile.duration_nanos(), 0);  // the end is not known
}

// scripts/bench reads the handler's cost from here; without PROFAGENT_VERBOSE=2 nobody sums it, and nothing is said.
TEST(PprofEncoder, TellsWhatTheHandlerCostWhenItWasMeasured) {
  TestLedger ledger;
  ledger.ledger().header()->handler_calls = 12;
  ledger.ledger().header()->handler_ns = 34567;
  std::vector<std::string> comments = Comments(Parse(Encode(ledger.view(), RequestEndingAt(1))));
  EXPECT_EQ(std::count(comments.begin(), comments.end(), "# handler: 12 calls, 34567 ns"), 1);
}

TEST(PprofEncoder, EndsACpuProfileWhereItWasStopped) {
  TestLedger ledger;
  ledger.ledger().header()->cpu_stop_monotonic_ns = 6'500'000'000;
  EXPECT_EQ(Parse(Encode(ledger.view(), RequestEndingAt(9'000'000'000))).duration_nanos(), 1'500'000'000);
}

// The kernel cuts thread names after 15 bytes, in the middle of a letter if need be. Readers of proto3 refuse a
// whole profile for one such byte.
TEST(PprofEncoder, WritesValidUtf8OfNamesThatAreNot) {
  TestLedger ledger;
  ledger.AddProgramAndLibrary();
  ledger.Add({In(1, 0x1234)},
             "pr\xc3\xbc"
             "fung\xc3",
             1);
  ledger.Add({In(1, 0x1234)}, "\xff\xfe\xed\xa0\x80", 2);
  Profile profile = Parse(Encode(ledger.view()));
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.sample(0).label(0).str())), "?????");
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.sample(1).label(0).str())),
            "pr\xc3\xbc"
            "fung?");
}

// Nor for one byte of a comment: arguments are file names and texts of any encoding.
TEST(PprofEncoder, WritesValidUtf8OfArgumentsThatAreNot) {
  TestLedger ledger;
  ledger.ledger().header()->command_line = ledger.ledger()
                                               .InternText(
                                                   "grep caf\xe9 pr\xc3\xbc"
                                                   "fung \xe2\x82")
                                               .value;
  EncodeRequest request;
  std::string_view extra[] = {"killed \xff"};
  request.comments = extra;
  std::vector<std::string> comments = Comments(Parse(Encode(ledger.view(), request)));
  EXPECT_EQ(std::count(comments.begin(), comments.end(),
                       "# command: grep caf? pr\xc3\xbc"
                       "fung ??"),
            1);
  EXPECT_EQ(std::count(comments.begin(), comments.end(), "killed ?"), 1);
}

// The kernel may have nothing left for us: what fits is written, and what does not is said.
TEST(PprofEncoder, GivesThePartThatFitsItsMemory) {
  TestLedger ledger(16 << 20);
  ledger.AddProgramAndLibrary();
  constexpr uint64_t kSites = 10000;
  for (uint64_t i = 0; i < kSites; ++i) ledger.Add({In(1, i), In(2, i)}, "", 1);
  uint64_t last_count = 0;
  int complete = 0, failed = 0;
  for (size_t limit = 128 << 10; limit <= (8 << 20); limit *= 2) {
    Arena arena(limit);
    std::string bytes;
    auto sink = [&](std::span<const std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
      return true;
    };
    Status status = EncodeProfile(ledger.view(), RequestEndingAt(0), PageNames, arena, sink);
    EXPECT_LE(arena.taken(), limit);
    if (!status) {
      EXPECT_EQ(status.error().text.view(), "no memory to encode a profile");
      ++failed;
      continue;
    }
    Profile profile = Parse(bytes);
    uint64_t count = static_cast<uint64_t>(profile.sample_size());
    EXPECT_GE(count, last_count);
    last_count = count;
    bool whole = count == kSites && profile.location_size() == 2 * kSites;
    complete += whole;
    if (!whole) {
      EXPECT_TRUE(HasComment(profile, "samples_no_encoder_memory=") ||
                  HasComment(profile, "frames_no_encoder_memory="));
    }
    for (const auto& sample : profile.sample()) {
      for (uint64_t id : sample.location_id()) ASSERT_LE(id, static_cast<uint64_t>(profile.location_size()));
    }
  }
  EXPECT_EQ(failed, 1);
  EXPECT_GT(last_count, 0u);
  EXPECT_GE(complete, 1);
}

// A ledger that was filled up has samples enough to take all of that memory. Those that are written have their stacks all the same.
TEST(PprofEncoder, KeepsMemoryForThePlacesOfTheSamplesThatFit) {
  TestLedger ledger(16 << 20);
  ledger.AddProgramAndLibrary();
  ledger.AddModule(3, kModuleIsAgent, "/usr/lib/libprofagent.so", 0x7e0000000000, {});
  constexpr uint64_t kSites = 20000;
  for (uint64_t i = 0; i < kSites; ++i) {  // with frames that are hidden in two places: each stack is copied
    ledger.Add({In(3, 2), In(1, i % 30), In(1, 100 + i / 30 % 30), In(1, 200 + i / 900), In(3, 1), In(2, 1)},
               "", 1);
  }
  for (size_t limit = 256 << 10; limit <= (4 << 20); limit *= 2) {
    Arena arena(limit);
    std::string bytes;
    auto sink = [&](std::span<const std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
      return true;
    };
    ASSERT_TRUE(EncodeProfile(ledger.view(), RequestEndingAt(0), PageNames, arena, sink));
    EXPECT_LE(arena.taken(), limit);
    Profile profile = Parse(bytes);
    EXPECT_GT(profile.sample_size(), 0);
    EXPECT_FALSE(HasComment(profile, "frames_no_encoder_memory=")) << limit;
    for (const auto& sample : profile.sample()) ASSERT_GE(sample.location_id_size(), 4);
  }
}

// Where frames have no place for want of memory, the others of their stacks keep theirs.
TEST(PprofEncoder, LeavesOutFramesWithoutMemoryAndNothingElse) {
  constexpr uint64_t kSites = 20000, kBias = 0x5555'0000'0000;
  TestLedger ledger(16 << 20);
  ledger.AddProgramAndLibrary();
  auto stack_of = [](uint64_t i) {
    return std::vector<uint64_t>{10'000'000 + i, 7, 20'000'000 + i, 30'000'000 + i / 3, 9};
  };
  for (uint64_t i = 1; i <= kSites; ++i) {
    std::vector<Frame> frames;
    for (uint64_t offset : stack_of(i)) frames.push_back(In(1, offset));
    ledger.Add(frames, "", i);
  }
  Arena arena(3 << 20);
  std::string bytes;
  auto sink = [&](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  ASSERT_TRUE(EncodeProfile(ledger.view(), RequestEndingAt(0), NoSymbols, arena, sink));
  Profile profile = Parse(bytes);
  ASSERT_TRUE(HasComment(profile, "frames_no_encoder_memory="));
  int incomplete = 0;
  for (const auto& sample : profile.sample()) {
    std::vector<uint64_t> left = stack_of(static_cast<uint64_t>(sample.value(0)));
    incomplete += sample.location_id_size() < 5 ? 1 : 0;
    auto at = left.begin();
    for (uint64_t id : sample.location_id()) {
      ASSERT_TRUE(id >= 1 && id <= static_cast<uint64_t>(profile.location_size())) << id;
      at = std::find(at, left.end(), profile.location(static_cast<int>(id - 1)).address() - kBias);
      ASSERT_NE(at, left.end());
      ++at;
    }
  }
  EXPECT_GT(incomplete, 1000);
}

// A ledger's deepest stack, where its header does not say (or not truly) at what depth it is cut.
TEST(PprofEncoder, WritesNoStackDeeperThanTheLimit) {
  for (uint32_t max_depth : {0u, 100'000u}) {
    TestLedger ledger;
    ledger.AddProgramAndLibrary();
    ledger.ledger().header()->max_depth = max_depth;
    std::vector<Frame> frames;
    for (uint64_t i = 0; i < kMaxStackRecord; ++i) frames.push_back(In(1, i));
    StackId stack = ledger.ledger().InternStack(frames, WalkEnd::kOutermost);
    CountAllocation(ledger.ledger().header(), ledger.ledger().FindHeapSite(stack, Bytes{8}));
    EncodeRequest request = RequestEndingAt(0);
    request.kind = ProfileKind::kHeap;
    Profile profile = Parse(Encode(ledger.view(), request));
    ASSERT_EQ(profile.sample_size(), 1);
    EXPECT_EQ(profile.sample(0).location_id_size(), static_cast<int>(kMaxDepthLimit));
  }
}

TEST(PprofEncoder, StopsWhenTheSinkRefuses) {
  TestLedger ledger(4 << 20);
  ledger.AddProgramAndLibrary();
  for (uint64_t i = 0; i < 10000; ++i) ledger.Add({In(1, i)}, "", 1);
  Arena arena;
  int calls = 0;
  auto sink = [&](std::span<const std::byte>) { return ++calls < 3; };
  EXPECT_FALSE(EncodeProfile(ledger.view(), RequestEndingAt(0), NoSymbols, arena, sink));
  EXPECT_EQ(calls, 3);
}

TEST(PprofEncoder, CompressesToWhatZlibReads) {
  TestLedger ledger(4 << 20);
  ledger.AddProgramAndLibrary();
  for (uint64_t i = 0; i < 10000; ++i) ledger.Add({In(1, i), In(2, i % 7)}, "", 1);
  std::string plain = Encode(ledger.view());
  std::string packed = EncodeGzip(ledger.view(), RequestEndingAt(8'000'000'000));
  EXPECT_LT(packed.size(), plain.size());
  z_stream stream{};
  ASSERT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  std::string unpacked(plain.size() + 1, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(unpacked.data());
  stream.avail_out = static_cast<uInt>(unpacked.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  unpacked.resize(stream.total_out);
  inflateEnd(&stream);
  EXPECT_EQ(unpacked, plain);
}

// A profile taken while the program runs on: each one is whole, and none goes back.
TEST(PprofEncoder, EncodesALedgerThatThreadsAddTo) {
  TestLedger ledger(8 << 20);
  ledger.AddProgramAndLibrary();
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      TextId name = ledger.ledger().InternText(t ? "one" : "two");
      for (uint64_t i = 0; !stop; ++i) {
        Frame frames[] = {In(1, i % 300), In(2, t), In(2, i % 3)};
        ++ledger.ledger().header()->cpu_ticks;
        ledger.ledger().AddCpuTicks(ledger.ledger().InternStack(frames, WalkEnd::kOutermost), name, 1);
      }
    });
  }
  int64_t last = 0;
  for (int round = 0; round < 10; ++round) {
    Profile profile = Parse(Encode(ledger.view()));
    int64_t total = 0;
    for (const auto& sample : profile.sample()) {
      total += sample.value(0);
      ASSERT_EQ(sample.location_id_size(), 3);
    }
    EXPECT_GE(total, last);
    last = total;
  }
  stop = true;
  for (auto& writer : writers) writer.join();
}

}  // namespace
}  // namespace profagent
