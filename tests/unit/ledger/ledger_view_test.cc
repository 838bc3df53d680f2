#include "agent/ledger/ledger_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/ledger/ledger.h"
#include "agent/ledger/record_hash.h"

namespace profagent {
namespace {

std::string_view Words(const Result<LedgerView>& result) { return result.error().text.view(); }

// What a visitor of everything sees, in an order of its own.
struct Contents {
  std::vector<std::string> modules;
  std::vector<uint32_t> threads;
  std::map<std::pair<std::vector<uint64_t>, std::string>, uint64_t> sites;
  uint64_t left_out = 0;
};

Contents Read(const LedgerView& view) {
  Contents contents;
  contents.left_out += view.ForEachModule(
      [&](const LedgerView::Module& module) { contents.modules.emplace_back(module.path); });
  contents.left_out +=
      view.ForEachThread([&](const LedgerView::Thread& thread) { contents.threads.push_back(thread.tid); });
  contents.left_out += view.ForEachCpuSite([&](const LedgerView::CpuSite& site) {
    std::vector<uint64_t> frames;
    for (Frame frame : site.stack.frames) frames.push_back(frame.value);
    contents.sites[{frames, std::string(site.name)}] += site.ticks;
  });
  return contents;
}

class LedgerViewTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerMinSize})); }
  void TearDown() override { ledger_.Close(); }

  void AddModule(uint16_t id, std::string_view path) {
    ModuleDescription module{};
    module.id = ModuleId{id};
    module.path = path;
    ASSERT_TRUE(ledger_.AddModule(module));
  }
  void AddTicks(std::vector<uint64_t> values, std::string_view name, uint64_t ticks) {
    std::vector<Frame> frames;
    for (uint64_t value : values) frames.push_back(Frame{value});
    ASSERT_TRUE(ledger_.AddCpuTicks(ledger_.InternStack(frames, WalkEnd::kOutermost),
                                    ledger_.InternText(name), ticks));
  }
  void Fill() {
    AddModule(1, "/bin/app");
    AddModule(2, "/lib/libc.so.6");
    for (uint32_t tid = 10; tid < 20; ++tid) ledger_.AddThread(tid, ledger_.InternText("worker"));
    for (uint64_t i = 1; i <= 500; ++i) AddTicks({i, i + 1, i + 2}, i % 2 ? "odd" : "even", i);
  }
  // The used part, as `profagent run` reads it from the file of a dead process; in words, so that it is aligned.
  std::vector<uint64_t> Copy() {
    std::vector<uint64_t> words(ledger_.header()->used / 8);
    std::memcpy(words.data(), ledger_.bytes().data(), words.size() * 8);
    return words;
  }
  static std::span<const std::byte> BytesOf(const std::vector<uint64_t>& words) {
    return std::as_bytes(std::span(words));
  }
  template <class Record>
  static Record* At(std::vector<uint64_t>& words, RecordId id) {
    return reinterpret_cast<Record*>(words.data() + id);
  }

  Ledger ledger_;
};

TEST_F(LedgerViewTest, DeliversEverythingThatWasRecorded) {
  Fill();
  Result<LedgerView> view = LedgerView::Over(ledger_.bytes());
  ASSERT_TRUE(view) << Words(view);
  Contents contents = Read(*view);
  EXPECT_EQ(contents.modules, (std::vector<std::string>{"/lib/libc.so.6", "/bin/app"}));
  EXPECT_EQ(contents.threads.size(), 10u);
  EXPECT_EQ(contents.sites.size(), 500u);
  EXPECT_EQ((contents.sites[{{7, 8, 9}, "odd"}]), 7u);
  EXPECT_EQ(contents.left_out, 0u);
}

// A harvested file is read into memory only as far as it was used.
TEST_F(LedgerViewTest, ReadsACopyOfTheUsedPart) {
  Fill();
  std::vector<uint64_t> words = Copy();
  Result<LedgerView> view = LedgerView::Over(BytesOf(words));
  ASSERT_TRUE(view) << Words(view);
  EXPECT_EQ(view->missing_bytes(), 0u);
  EXPECT_EQ(Read(*view).sites.size(), 500u);
}

// Who finds it full counts past its end: nothing of it is missing.
TEST_F(LedgerViewTest, MissesNothingOfAFullLedger) {
  Fill();
  ledger_.header()->used = ledger_.bytes().size() + 4096;
  Result<LedgerView> view = LedgerView::Over(ledger_.bytes());
  ASSERT_TRUE(view) << Words(view);
  EXPECT_EQ(view->missing_bytes(), 0u);
}

// Chains lead from the newest record to the oldest, so a lost end takes more with it than its own records.
TEST_F(LedgerViewTest, DeliversWhatACutCopyStillHolds) {
  Fill();
  std::vector<uint64_t> words = Copy();
  size_t whole = words.size();
  words.resize(whole - 1000);
  Result<LedgerView> view = LedgerView::Over(BytesOf(words));
  ASSERT_TRUE(view) << Words(view);
  EXPECT_EQ(view->missing_bytes(), 8000u);
  Contents contents = Read(*view);
  EXPECT_GT(contents.sites.size(), 20u);
  EXPECT_LT(contents.sites.size(), 500u);
  EXPECT_GT(contents.left_out, 0u);
}

TEST_F(LedgerViewTest, NamesWhatIsNotALedger) {
  std::vector<uint64_t> words(1000, 0x4242424242424242);
  EXPECT_EQ(Words(LedgerView::Over(BytesOf(words))), "not a ledger of profagent");
  EXPECT_NE(Words(LedgerView::Over(BytesOf(words).first(16))).find("too short for a ledger: 16 bytes"),
            std::string_view::npos);
  EXPECT_NE(Words(LedgerView::Over({})).find("too short"), std::string_view::npos);
  words[0] = 0;
  EXPECT_NE(Words(LedgerView::Over(BytesOf(words))).find("empty ledger"), std::string_view::npos);
  EXPECT_NE(Words(LedgerView::Over(BytesOf(words).subspan(1))).find("not aligned"), std::string_view::npos);
}

TEST_F(LedgerViewTest, NamesTheVersionThatItCannotRead) {
  std::vector<uint64_t> words = Copy();
  At<LedgerHeader>(words, 0)->version = kLedgerVersion + 1;
  std::string expected = "version " + std::to_string(kLedgerVersion + 1) + "; this profagent reads version " +
                         std::to_string(kLedgerVersion);
  EXPECT_NE(Words(LedgerView::Over(BytesOf(words))).find(expected), std::string_view::npos);
}

TEST_F(LedgerViewTest, RefusesImpossibleSizesAndTablesOutside) {
  auto error_with = [&](auto damage) {
    std::vector<uint64_t> words = Copy();
    damage(At<LedgerHeader>(words, 0));
    return std::string(Words(LedgerView::Over(BytesOf(words))));
  };
  EXPECT_NE(error_with([](auto* h) { h->size = 5; }).find("impossible sizes"), std::string::npos);
  EXPECT_NE(error_with([](auto* h) { h->size = UINT64_MAX; }).find("impossible sizes"), std::string::npos);
  EXPECT_NE(error_with([](auto* h) { h->header_size = 8; }).find("impossible sizes"), std::string::npos);
  EXPECT_NE(error_with([](auto* h) { h->cpu_sites.log2_count = 31; }).find("lies outside"),
            std::string::npos);
  EXPECT_NE(error_with([](auto* h) { h->stacks.first = UINT32_MAX; }).find("lies outside"),
            std::string::npos);
  EXPECT_NE(error_with([](auto* h) { h->texts.first = 0; }).find("lies outside"), std::string::npos);
}

// A chain that runs in a circle would keep the reader, and with it the exit of the program, busy for ever.
TEST_F(LedgerViewTest, DeliversEachRecordOfACircleOnce) {
  for (uint16_t length = 1; length <= 20; ++length) {
    for (uint16_t target = 1; target <= length; ++target) {
      Ledger ledger;
      ASSERT_TRUE(ledger.CreateAnonymous(Bytes{kLedgerMinSize}));
      std::vector<ThreadRecord*> records;
      for (uint32_t tid = 1; tid <= length; ++tid) records.push_back(ledger.AddThread(tid, kNoText));
      auto id_of = [&](ThreadRecord* record) {
        return static_cast<RecordId>((reinterpret_cast<std::byte*>(record) - ledger.bytes().data()) / 8);
      };
      records[0]->next = id_of(records[target - 1]);  // the oldest leads back
      Result<LedgerView> view = LedgerView::Over(ledger.bytes());
      ASSERT_TRUE(view);
      std::multiset<uint32_t> seen;
      uint64_t left_out =
          view->ForEachThread([&](const LedgerView::Thread& thread) { seen.insert(thread.tid); });
      EXPECT_EQ(seen.size(), length);
      EXPECT_EQ(std::set<uint32_t>(seen.begin(), seen.end()).size(), length);
      EXPECT_EQ(left_out, 1u);
      ledger.Close();
    }
  }
}

TEST_F(LedgerViewTest, StopsAtAnIdThatLeadsOutside) {
  Fill();
  for (RecordId wild :
       {RecordId{1}, RecordId{70}, UINT32_MAX, UINT32_MAX - 1, RecordId{kLedgerMinSize / 8 - 1}}) {
    std::vector<uint64_t> words = Copy();
    At<LedgerHeader>(words, 0)->threads = wild;
    At<LedgerHeader>(words, 0)->modules = wild;
    Result<LedgerView> view = LedgerView::Over(BytesOf(words));
    ASSERT_TRUE(view);
    Contents contents = Read(*view);
    EXPECT_TRUE(contents.threads.empty());
    EXPECT_TRUE(contents.modules.empty());
    EXPECT_EQ(contents.left_out, 2u);
    EXPECT_EQ(contents.sites.size(), 500u);
    EXPECT_EQ(view->Text(wild), "");
    EXPECT_FALSE(view->FindStack(wild));
  }
}

// Where all buckets lead into one chain, its records count once.
TEST_F(LedgerViewTest, BelievesARecordInItsOwnBucketOnly) {
  Fill();
  std::vector<uint64_t> words = Copy();
  BucketArray array = ledger_.header()->cpu_sites;
  auto* heads = At<RecordId>(words, array.first);
  const uint32_t buckets = uint32_t{1} << array.log2_count;
  ASSERT_LT(array.log2_count, BucketArray::kLog2Near);  // a record has one bucket
  std::fill(heads, heads + buckets, heads[3]);
  Result<LedgerView> view = LedgerView::Over(BytesOf(words));
  ASSERT_TRUE(view);
  std::multiset<RecordId> stacks;
  uint64_t left_out =
      view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { stacks.insert(site.stack_id); });
  EXPECT_EQ(left_out, buckets - 1);
  EXPECT_GT(stacks.size(), 0u);
  for (RecordId stack : stacks) EXPECT_EQ(stacks.count(stack), 1u);
}

// A stack whose frames were hit by the damage is not a stack that ran.
TEST_F(LedgerViewTest, LeavesOutAStackThatDoesNotMatchItsHash) {
  StackId good, bad;
  Frame frames[] = {Frame{1}, Frame{2}};
  good = ledger_.InternStack(frames, WalkEnd::kOutermost);
  frames[0] = Frame{3};
  bad = ledger_.InternStack(frames, WalkEnd::kOutermost);
  ledger_.AddCpuTicks(good, kNoText, 1);
  ledger_.AddCpuTicks(bad, kNoText, 1);
  std::vector<uint64_t> words = Copy();
  At<StackRecord>(words, bad.value)->frames()[1].value ^= 0x100;
  Result<LedgerView> view = LedgerView::Over(BytesOf(words));
  ASSERT_TRUE(view);
  Contents contents = Read(*view);
  EXPECT_EQ(contents.sites.size(), 1u);
  EXPECT_EQ(contents.left_out, 1u);
}

TEST_F(LedgerViewTest, LeavesOutATextThatDoesNotMatchItsHash) {
  TextId text = ledger_.InternText("libfoo.so");
  std::vector<uint64_t> words = Copy();
  Result<LedgerView> view = LedgerView::Over(BytesOf(words));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->Text(text.value), "libfoo.so");
  At<TextRecord>(words, text.value)->data()[3] = 'X';
  EXPECT_EQ(view->Text(text.value), "");
  At<TextRecord>(words, text.value)->size = UINT32_MAX;
  EXPECT_EQ(view->Text(text.value), "");
}

// The same work as the fuzzer's, in every ordinary run: any damage at all may cost records, never a crash, a hang
// or a record twice.
TEST_F(LedgerViewTest, SurvivesRandomDamage) {
  Fill();
  const std::vector<uint64_t> whole = Copy();
  std::mt19937_64 random(20261123);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> words = whole;
    auto* bytes = reinterpret_cast<uint8_t*>(words.data());
    int hits = 1 + static_cast<int>(random() % 64);
    // Half of the damage goes to the header and the used part's ends, where ids are.
    for (int i = 0; i < hits; ++i) {
      size_t at = random() % 2 ? random() % sizeof(LedgerHeader) : random() % (words.size() * 8);
      if (at < 16 && round % 16 != 0) continue;  // or nearly every round would end at the magic
      bytes[at] = static_cast<uint8_t>(random());
    }
    if (random() % 4 == 0) words.resize(random() % words.size());
    Result<LedgerView> view = LedgerView::Over(BytesOf(words));
    if (!view) continue;
    uint64_t sites = 0;
    view->ForEachCpuSite([&](const LedgerView::CpuSite& site) {
      ++sites;
      ASSERT_LE(site.stack.frames.size(), kMaxDepthLimit);
    });
    EXPECT_LE(sites, words.size() * 8 / sizeof(CpuSiteRecord) * 3);  // records of a damaged file may overlap
    Read(*view);
  }
}

// A dump runs while the program goes on: it must see whole records only, and what was there before must be there.
TEST_F(LedgerViewTest, ReadsALedgerThatThreadsAddTo) {
  AddTicks({1}, "first", 5);
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      for (uint64_t i = 0; !stop; ++i) {
        Frame frames[] = {Frame{100 + i % 300}, Frame{t}};
        StackId stack = ledger_.InternStack(frames, WalkEnd::kOutermost);
        ledger_.AddCpuTicks(stack, ledger_.InternText("writer"), 1);
        if (i % 512 == 0) ledger_.AddThread(static_cast<uint32_t>(i), kNoText);
      }
    });
  }
  Result<LedgerView> view = LedgerView::Over(ledger_.bytes());
  ASSERT_TRUE(view);
  uint64_t last_total = 0;
  for (int round = 0; round < 20; ++round) {
    Contents contents = Read(*view);
    EXPECT_EQ(contents.left_out, 0u);
    EXPECT_EQ((contents.sites[{{1}, "first"}]), 5u);
    uint64_t total = 0;
    for (auto& [key, ticks] : contents.sites) total += ticks;
    EXPECT_GE(total, last_total);
    last_total = total;
  }
  stop = true;
  for (auto& writer : writers) writer.join();
}

}  // namespace
}  // namespace profagent
