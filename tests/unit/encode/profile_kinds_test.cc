// Heap, block and mutex profiles: Go's own acceptance tests in native form (runtime/pprof protomem_test.go,
// mprof_test.go), and what is ours beyond them.
#include <gtest/gtest.h>

#include "agent/encode/text_profile.h"
#include "agent/ledger/contention_sample.h"
#include "agent/ledger/heap_sites.h"
#include "agent/ledger/lock_label.h"
#include "tests/unit/encode/test_ledger.h"

namespace profagent {
namespace {

struct Values {
  std::vector<int64_t> values;
  std::map<std::string, std::string> labels;  // a number as decimal text
  std::vector<std::string> stack;             // leaf first
};

std::vector<Values> SamplesOf(const Profile& profile) {
  std::vector<Values> samples;
  for (const auto& sample : profile.sample()) {
    Values& values = samples.emplace_back();
    values.values.assign(sample.value().begin(), sample.value().end());
    for (const auto& label : sample.label()) {
      values.labels[profile.string_table(static_cast<int>(label.key()))] =
          label.str() != 0 ? profile.string_table(static_cast<int>(label.str()))
                           : std::to_string(label.num());
    }
    for (uint64_t location : sample.location_id()) values.stack.push_back(FunctionName(profile, location));
  }
  return samples;
}

std::vector<std::string> TypesOf(const Profile& profile) {
  std::vector<std::string> types;
  for (const auto& type : profile.sample_type()) {
    types.push_back(profile.string_table(static_cast<int>(type.type())) + "/" +
                    profile.string_table(static_cast<int>(type.unit())));
  }
  return types;
}

EncodeRequest Of(ProfileKind kind) {
  EncodeRequest request = RequestEndingAt(8'000'000'000);
  request.kind = kind;
  return request;
}

class HeapLedger : public TestLedger {
 public:
  explicit HeapLedger(uint64_t rate) : TestLedger(uint64_t{4} << 20) {
    AddProgramAndLibrary();
    ledger().header()->heap_rate = rate;
    ledger().header()->max_depth = 128;
    ledger().header()->start_monotonic_ns = 5'000'000'000;
    ledger().header()->start_realtime_ns = 1'700'000'000'000'000'000;
  }
  void AddBlocks(const std::vector<Frame>& frames, uint64_t size, uint64_t allocated, uint64_t freed = 0) {
    HeapSiteRecord* site =
        ledger().FindHeapSite(ledger().InternStack(frames, WalkEnd::kOutermost), Bytes{size});
    ASSERT_NE(site, nullptr);
    for (uint64_t i = 0; i < allocated; ++i) CountAllocation(ledger().header(), site);
    for (uint64_t i = 0; i < freed; ++i) CountFree(ledger().header(), site);
  }
};

void AllocatorNames(const SymbolRequest& request, std::span<FunctionSymbol> names) {
  for (size_t i = 0; i < names.size(); ++i) {
    uint64_t page = request.addresses[i] >> 12;
    static constexpr std::string_view kNames[] = {
        "", "main", "_Znwm", "_ZnamRKSt9nothrow_t", "reallocarray", "work"};
    if (page < std::size(kNames)) names[i].name = kNames[page];
  }
}

// TestConvertMemProfile: the golden triples.
TEST(HeapProfile, IsUnsampledAsGoDoesIt) {
  HeapLedger ledger(512 * 1024);
  ledger.AddBlocks({In(1, 0x1001)}, 1024, 4);
  ledger.AddBlocks({In(1, 0x1001), In(1, 0x1002)}, 512 * 1024, 1);
  ledger.AddBlocks({In(1, 0x1003)}, 1024, 4, 1);
  ledger.AddBlocks({In(1, 0x1001), In(1, 0x1002), In(1, 0x1003)}, 512 * 1024, 1, 1);
  for (ProfileKind kind : {ProfileKind::kHeap, ProfileKind::kAllocs}) {
    Profile profile = Parse(Encode(ledger.view(), Of(kind)));
    EXPECT_EQ(TypesOf(profile), (std::vector<std::string>{"alloc_objects/count", "alloc_space/bytes",
                                                          "inuse_objects/count", "inuse_space/bytes"}));
    EXPECT_EQ(profile.period(), 524288);
    EXPECT_EQ(profile.string_table(static_cast<int>(profile.period_type().type())), "space");
    EXPECT_EQ(profile.string_table(static_cast<int>(profile.period_type().unit())), "bytes");
    EXPECT_EQ(profile.duration_nanos(), 0);
    EXPECT_EQ(profile.time_nanos(), 1'700'000'003'000'000'000);
    EXPECT_EQ(profile.string_table(static_cast<int>(profile.default_sample_type())),
              kind == ProfileKind::kAllocs ? "alloc_space" : "");
    std::map<std::string, std::vector<int64_t>> by_stack;
    for (const Values& sample : SamplesOf(profile)) {
      by_stack[sample.labels.at("bytes") + " " + std::to_string(sample.stack.size()) + " " +
               std::to_string(sample.values[2])] = sample.values;
    }
    EXPECT_EQ(by_stack.at("1024 1 2050"), (std::vector<int64_t>{2050, 2099200, 2050, 2099200}));
    EXPECT_EQ(by_stack.at("1024 1 1537"), (std::vector<int64_t>{2050, 2099200, 1537, 1574400}));
    EXPECT_EQ(by_stack.at("524288 2 1"), (std::vector<int64_t>{1, 829411, 1, 829411}));
    EXPECT_EQ(by_stack.at("524288 3 0"), (std::vector<int64_t>{1, 829411, 0, 0}));
  }
}

// TestMemoryProfiler at rate 1: every figure is exact, and what was freed is still allocated.
TEST(HeapProfile, IsExactAtRateOne) {
  HeapLedger ledger(1);
  ledger.AddBlocks({In(1, 0x1001)}, 32, 32);
  ledger.AddBlocks({In(1, 0x1002)}, 1024, 1024, 1024);
  std::vector<Values> samples = SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kHeap))));
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{32, 1024, 32, 1024}));
  EXPECT_EQ(samples[1].values, (std::vector<int64_t>{1024, 1048576, 0, 0}));
}

// A profile of `operator new` says nothing: the leaf is who asked. Equal stacks become one sample then.
TEST(HeapProfile, BeginsWithTheCallerOfTheAllocator) {
  HeapLedger ledger(1);
  ledger.AddBlocks({In(2, 0x2010), In(1, 0x5001), In(1, 0x1001)}, 16, 1);
  ledger.AddBlocks({In(2, 0x3010), In(2, 0x2020), In(1, 0x5001), In(1, 0x1001)}, 16, 2);
  ledger.AddBlocks({In(2, 0x2010)}, 8, 1);  // nothing else is known: better than an empty stack
  std::vector<Values> samples =
      SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kHeap), AllocatorNames)));
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].stack, (std::vector<std::string>{"work", "main"}));
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{3, 48, 3, 48}));
  EXPECT_EQ(samples[1].stack, (std::vector<std::string>{"_Znwm"}));
}

// A pass over the symbols of a large library takes milliseconds: one of each module; two, where going through all stacks for their
// frames would take longer. No address is asked for twice.
TEST(HeapProfile, AsksForNamesTogether) {
  for (uint64_t stacks : {100, 4096, 4097}) {
    HeapLedger ledger(1);
    for (uint64_t i = 0; i < stacks; ++i)
      ledger.AddBlocks(
          {In(2, 0x2010), In(1, 0x1001), In(1, 0x1002), In(1, 0x1003), In(1, 0x5000 + i), In(1, 0x1004)}, 16,
          1);
    std::map<ModuleId, uint64_t> requests;
    std::map<std::pair<ModuleId, uint64_t>, uint64_t> asked;
    auto names = [&](const SymbolRequest& request, std::span<FunctionSymbol> symbols) {
      ++requests[request.module.id];
      for (uint64_t address : request.addresses) ++asked[{request.module.id, address}];
      AllocatorNames(request, symbols);
    };
    std::vector<Values> samples = SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kHeap), names)));
    ASSERT_EQ(samples.size(), stacks);
    EXPECT_EQ(samples[0].stack.size(), 5u);
    EXPECT_EQ(samples[0].stack[4], "main");
    EXPECT_EQ(asked.size(), stacks + 5);
    for (const auto& [address, times] : asked) EXPECT_EQ(times, 1u) << address.second;
    EXPECT_EQ(requests[ModuleId{2}], 1u);
    EXPECT_EQ(requests[ModuleId{1}], stacks <= 4096 ? 1u : 2u);
  }
}

// As many as a stack is recorded deeper for, in few stacks and in many.
TEST(HeapProfile, HidesAllLeavesThatThereIsRoomFor) {
  for (uint64_t stacks : {100, 5000}) {
    HeapLedger ledger(1);
    for (uint64_t i = 0; i < stacks; ++i)
      ledger.AddBlocks(
          {In(2, 0x2010), In(2, 0x2011), In(2, 0x3010), In(2, 0x4010), In(1, 0x5000 + i), In(1, 0x1001)}, 16,
          1);
    std::vector<Values> samples =
        SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kHeap), AllocatorNames)));
    ASSERT_EQ(samples.size(), stacks);
    for (const Values& sample : samples) ASSERT_EQ(sample.stack.size(), 2u);
  }
}

// Largest first: by what the kind shows by default.
TEST(HeapProfile, IsInTheOrderOfItsKind) {
  HeapLedger ledger(1);
  ledger.AddBlocks({In(1, 0x1001)}, 1, 300);      // held most
  ledger.AddBlocks({In(1, 0x1002)}, 100, 10, 9);  // allocated most
  ledger.AddBlocks({In(1, 0x1003)}, 200, 2, 1);
  auto sizes = [&](ProfileKind kind) {
    std::vector<std::string> found;
    for (const Values& sample : SamplesOf(Parse(Encode(ledger.view(), Of(kind)))))
      found.push_back(sample.labels.at("bytes"));
    return found;
  };
  using Sizes = std::vector<std::string>;
  EXPECT_EQ(sizes(ProfileKind::kHeap), (Sizes{"1", "200", "100"}));
  EXPECT_EQ(sizes(ProfileKind::kAllocs), (Sizes{"100", "200", "1"}));
  EXPECT_EQ(sizes(ProfileKind::kHeapPeak), (Sizes{"100", "1"}));
}

// TestProfilerStackDepth: 128 frames that count, however many were hidden.
TEST(HeapProfile, IsCutAtTheDepthAfterHiding) {
  HeapLedger ledger(1);
  std::vector<Frame> deep = {In(2, 0x2010)};
  for (uint64_t i = 0; i < 131; ++i) deep.push_back(In(1, 0x5000 + i));
  ledger.AddBlocks(deep, 16, 1);
  deep.resize(129);
  ledger.AddBlocks(deep, 32, 1);
  std::vector<Values> samples =
      SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kHeap), AllocatorNames)));
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].stack.size(), 128u);
  EXPECT_EQ(samples[0].stack.back(), "work");
  EXPECT_EQ(samples[1].stack.size(), 128u);
  EXPECT_EQ(samples[1].stack.back(), "[truncated]");
}

// What a reader of the profile learns of records that were left out.
TEST(HeapProfile, SaysThatTheLedgerIsDamaged) {
  HeapLedger ledger(1);
  ledger.AddBlocks({In(1, 0x1000)}, 16, 1);
  StackId bad = ledger.ledger().InternStack(std::vector<Frame>{In(1, 0x5000)}, WalkEnd::kOutermost);
  ledger.AddBlocks({In(1, 0x5000)}, 16, 1);
  ledger.Add({In(1, 0x5000)}, "", 1);
  ledger.Add({In(1, 0x1000)}, "", 1);
  ContentionSiteRecord* waits = ledger.ledger().FindContentionSite(ContentionKind::kBlock, bad, kNoText);
  waits->count = waits->nanos = 1;
  ledger.ledger().At<StackRecord>(bad.value)->frames()[0] = In(1, 0x5001);
  for (ProfileKind kind :
       {ProfileKind::kHeap, ProfileKind::kHeapPeak, ProfileKind::kCpu, ProfileKind::kBlock}) {
    Profile profile = Parse(Encode(ledger.view(), Of(kind)));
    EXPECT_EQ(profile.sample_size(), kind == ProfileKind::kBlock ? 0 : 1);
    EXPECT_TRUE(HasComment(profile, "ledger_records_damaged=1 (left out)"));
  }
}

std::string EncodeAsText(const LedgerView& view, ProfileKind kind, SymbolSource symbols = NoSymbols) {
  Arena arena;
  std::string text;
  auto sink = [&](std::span<const std::byte> part) {
    text.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  Status status = EncodeText(view, Of(kind), symbols, arena, sink);
  EXPECT_TRUE(status) << status.error().text.view();
  return text;
}

// TestMemoryProfiler's text: raw counts, return addresses behind the @, calls below; columns as Go's tabwriter makes them.
TEST(TextProfile, IsGosHeapText) {
  HeapLedger ledger(4096);
  ledger.AddBlocks({In(1, 0x1017), In(1, 0x5001)}, 32, 32);
  ledger.AddBlocks({In(2, 0x2010), In(1, 0x1fff)}, 1024, 1024, 1024);
  std::string text = EncodeAsText(ledger.view(), ProfileKind::kHeap, AllocatorNames);
  EXPECT_EQ(text.substr(0, text.find("MAPPED_LIBRARIES")),
            "heap profile: 32: 1024 [1056: 1049600] @ heap/8192\n"
            "32: 1024 [32: 1024] @ 0x555500001018 0x555500005002\n"
            "#\t0x555500001017\tmain+0x1017\t/usr/bin/app\n"
            "#\t0x555500005001\twork+0x5001\t/usr/bin/app\n"
            "\n"
            "0: 0 [1024: 1048576] @ 0x555500002000\n"
            "#\t0x555500001fff\tmain+0x1fff\t/usr/bin/app\n"
            "\n");
  EXPECT_EQ(EncodeAsText(ledger.view(), ProfileKind::kAllocs, AllocatorNames).substr(0, 13), "heap profile:");
  EXPECT_NE(text.find("0x555500001040-0x555500008123 r-xp 0x1040 00:00 0 /usr/bin/app\n"), std::string::npos);
}

TEST(HeapProfile, ShowsThePeak) {
  HeapLedger ledger(1);
  ledger.AddBlocks({In(1, 0x1001)}, 1000, 5, 5);
  ledger.AddBlocks({In(1, 0x1002)}, 10, 3);
  Profile profile = Parse(Encode(ledger.view(), Of(ProfileKind::kHeapPeak)));
  EXPECT_EQ(TypesOf(profile), (std::vector<std::string>{"peak_objects/count", "peak_space/bytes"}));
  std::vector<Values> samples = SamplesOf(profile);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{5, 5000}));
}

class ContentionLedger : public TestLedger {
 public:
  ContentionLedger() {
    AddProgramAndLibrary();
    ledger().header()->block_rate = 10'000;
    ledger().header()->mutex_fraction = 10;
  }
  ContentionSiteRecord* Site(ContentionKind kind, Primitive primitive, std::string_view lock = {}) {
    Frame frames[] = {PrimitiveFrame(primitive), In(1, 0x1234)};
    return ledger().FindContentionSite(kind, ledger().InternStack(frames, WalkEnd::kOutermost),
                                       ledger().InternText(lock));
  }
};

TEST(ContentionProfile, SaysWhoWaitsAndWhoMakesWait) {
  ContentionLedger ledger;
  ContentionSiteRecord* waiter = ledger.Site(ContentionKind::kBlock, Primitive::kMutexLock, "global_mu");
  waiter->count = 7 * kContentionUnit / 2;
  waiter->nanos = 1'000'000;
  ContentionSiteRecord* holder = ledger.Site(ContentionKind::kMutex, Primitive::kMutexUnlock);
  holder->count = kContentionUnit / 4;
  holder->nanos = 2'000'000;
  for (ProfileKind kind : {ProfileKind::kBlock, ProfileKind::kMutex}) {
    Profile profile = Parse(Encode(ledger.view(), Of(kind)));
    EXPECT_EQ(TypesOf(profile), (std::vector<std::string>{"contentions/count", "delay/nanoseconds"}));
    EXPECT_EQ(profile.period(), 1);
    EXPECT_EQ(profile.string_table(static_cast<int>(profile.period_type().type())), "contentions");
    EXPECT_EQ(profile.duration_nanos(), 0);
    std::vector<Values> samples = SamplesOf(profile);
    ASSERT_EQ(samples.size(), 1u);
    if (kind == ProfileKind::kBlock) {
      EXPECT_EQ(samples[0].values, (std::vector<int64_t>{3, 1'000'000}));
      EXPECT_EQ(samples[0].stack[0], "pthread_mutex_lock");
      EXPECT_EQ(samples[0].labels.at("lock"), "global_mu");
    } else {
      EXPECT_EQ(samples[0].values, (std::vector<int64_t>{1, 2'000'000}));  // never 0 contentions with a delay
      EXPECT_EQ(samples[0].stack[0], "pthread_mutex_unlock");
      EXPECT_TRUE(samples[0].labels.empty());
    }
  }
}

// TestBlockProfile's and TestMutexProfile's headers. pprof multiplies by the sampling period: rows are scaled already.
TEST(TextProfile, IsGosContentionText) {
  ContentionLedger ledger;
  ContentionSiteRecord* waiter = ledger.Site(ContentionKind::kBlock, Primitive::kMutexLock);
  waiter->count = 3 * kContentionUnit;
  waiter->nanos = 1'000'000;
  ContentionSiteRecord* holder = ledger.Site(ContentionKind::kMutex, Primitive::kMutexUnlock);
  holder->count = 10 * kContentionUnit;
  holder->nanos = 7'000;
  std::string block = EncodeAsText(ledger.view(), ProfileKind::kBlock, AllocatorNames);
  EXPECT_EQ(block.substr(0, block.find("MAPPED")),
            "--- contention:\ncycles/second=1000000000\n"
            "1000000 3 @ 0x0 0x555500001235\n"
            "#\t0x0\t\tpthread_mutex_lock\t\n"
            "#\t0x555500001234\tmain+0x1234\t\t/usr/bin/app\n"
            "\n");
  std::string mutex = EncodeAsText(ledger.view(), ProfileKind::kMutex, AllocatorNames);
  EXPECT_EQ(mutex.substr(0, mutex.find(" @")),
            "--- mutex:\ncycles/second=1000000000\nsampling period=1\n7000 10");
}

// Go never shows a deadlocked thread: its wait does not end. Ours is in the profile with the time so far.
TEST(ContentionProfile, HoldsThreadsThatStillWait) {
  ContentionLedger ledger;
  ContentionSiteRecord* site = ledger.Site(ContentionKind::kBlock, Primitive::kMutexLock);
  WaiterRecord* waiter = ledger.ledger().TakeWaiter(4712);
  waiter->since_ns = 6'000'000'000;
  waiter->threshold_ns = 5'000;
  waiter->site = ledger.ledger().IdOf(site);
  WaiterRecord* short_wait = ledger.ledger().TakeWaiter(4713);
  short_wait->since_ns = 7'999'999'000;  // 1000 ns, and the draw says that it takes 5000 to be sampled
  short_wait->threshold_ns = 5'000;
  short_wait->site = ledger.ledger().IdOf(site);
  std::vector<Values> samples = SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kBlock))));
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{1, 2'000'000'000}));
  EXPECT_TRUE(SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kMutex)))).empty());

  // It ended, and its thread had no time to count it yet.
  waiter->waited_ns = 1'000'000;
  samples = SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kBlock))));
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].values, (std::vector<int64_t>{1, 1'000'000}));

  ledger.ledger().GiveWaiter(waiter);
  EXPECT_EQ(ledger.ledger().TakeWaiter(4714), waiter);  // used again
}

// Another thread's dlopen while a dump is written: the library's frames were `[module 9]+0x2100`, without a mapping.
TEST(ContentionProfile, KnowsALibraryThatIsMetMeanwhile) {
  ContentionLedger ledger;
  LockLabel lock = LabelOfStatic(In(1, 0x4000));
  ledger.Site(ContentionKind::kMutex, Primitive::kMutexUnlock, lock.view())->count = 1;
  bool met = false;
  auto names = [&](const SymbolRequest& request, std::span<FunctionSymbol>) {
    if (request.kind != SymbolKind::kVariables) return;
    met = true;
    ledger.AddModule(9, 0, "/usr/lib/new.so", 0x7f1000000000, {0x09});
    Frame frames[] = {In(9, 0x2100)};
    StackId stack = ledger.ledger().InternStack(frames, WalkEnd::kOutermost);
    ledger.ledger().FindContentionSite(ContentionKind::kMutex, stack, kNoText)->count = kContentionUnit;
  };
  Profile profile = Parse(Encode(ledger.view(), Of(ProfileKind::kMutex), names));
  ASSERT_TRUE(met);
  std::vector<std::string> leaves;
  for (const Values& sample : SamplesOf(profile)) leaves.push_back(sample.stack[0]);
  EXPECT_NE(std::find(leaves.begin(), leaves.end(), "new.so+0x2100"), leaves.end());
  ASSERT_EQ(profile.mapping_size(), 2);
  EXPECT_EQ(profile.string_table(static_cast<int>(profile.mapping(1).filename())), "/usr/lib/new.so");
}

// A site is made when a wait begins; until one was long enough to be drawn it is no sample.
TEST(ContentionProfile, HasNoSampleOfNothing) {
  ContentionLedger ledger;
  ledger.Site(ContentionKind::kBlock, Primitive::kMutexLock);
  EXPECT_TRUE(SamplesOf(Parse(Encode(ledger.view(), Of(ProfileKind::kBlock)))).empty());
}

// blocksampled: a short wait that was drawn stands for all those that were not.
TEST(ContentionProfile, StandsForTheWaitsThatWereNotDrawn) {
  EXPECT_EQ(BlockSample(Nanos{1'000}, 10'000).count, 10 * kContentionUnit);
  EXPECT_EQ(BlockSample(Nanos{1'000}, 10'000).nanos, 10'000u);
  EXPECT_EQ(BlockSample(Nanos{10'000}, 10'000).count, kContentionUnit);
  EXPECT_EQ(BlockSample(Nanos{25'000}, 10'000).nanos, 25'000u);
  EXPECT_EQ(BlockSample(Nanos{3}, 1).count, kContentionUnit);
  EXPECT_EQ(BlockSample(Nanos{1}, uint64_t{1} << 62).nanos, uint64_t{1} << 62);
}

}  // namespace
}  // namespace profagent
