#include "symbolizer/run/harvest.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <utility>

#include "agent/ledger/heap_sites.h"
#include "agent/ledger/ledger.h"
#include "tests/unit/scratch_directory.h"

namespace {
std::function<void()> g_behind_first_page;
}

// In the place of libc's: the next read stops behind a page, and something happens there.
extern "C" ssize_t pread(int fd, void* to, size_t size, off_t offset) {
  constexpr size_t kPage = 4096;
  const auto then = std::exchange(g_behind_first_page, nullptr);
  const long got = syscall(SYS_pread64, fd, to, then ? std::min(size, kPage) : size, offset);
  if (then) then();
  return got;
}

namespace profagent {
namespace {

// A daemon that outlives the command goes on recording while its records are copied: none of those from before may be lost.
TEST(Harvest, LosesNothingOfAProcessThatGoesOnRecording) {
  const testing::ScratchDirectory directory;
  const LedgerDirectory::LedgerFile file{directory.File("1.1.ledger"), 1, 1};
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(file.path.c_str(), Bytes{uint64_t{8} << 20}));
  ledger.header()->heap_rate.store(1);
  const Frame frame = Frame::Of(ModuleId::kNone, 0x1000);
  const StackId stack = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost, 1);
  constexpr uint64_t kSites = 10'000;  // more than there are buckets
  const auto record = [&](uint64_t first_size) {
    for (uint64_t size = first_size; size < first_size + kSites; ++size) {
      HeapSiteRecord* site = ledger.FindHeapSite(stack, Bytes{size});
      ASSERT_NE(site, nullptr);
      CountAllocation(ledger.header(), site);
    }
  };
  record(1);
  g_behind_first_page = [&] { record(1 + kSites); };
  const LedgerWatch watch(directory.path());
  const ProfileKind kind = ProfileKind::kHeap;
  const Harvest harvest = HarvestLedgers({file}, watch, {&kind, 1});
  EXPECT_FALSE(g_behind_first_page);
  ASSERT_EQ(harvest.processes.size(), 1u);
  const Profile& profile = harvest.processes[0].profiles[0].profile;
  EXPECT_GE(static_cast<uint64_t>(profile.sample_size()), kSites);
  for (const std::string& text : profile.string_table())
    EXPECT_FALSE(text.starts_with("ledger_records_damaged")) << text;
}

// An exec by a raw system call is noted by nobody. Its own end, and another process of that pid, are no exec.
TEST(Harvest, KnowsAnExecByTheImageBehindIt) {
  const testing::ScratchDirectory directory;
  std::vector<LedgerDirectory::LedgerFile> files;
  const auto add = [&](uint32_t pid, uint32_t serial, ProcessEnd end) {
    const std::string name = std::to_string(pid) + "." + std::to_string(serial) + ".ledger";
    files.push_back({directory.File(name), pid, serial});
    Ledger ledger;
    ASSERT_TRUE(ledger.CreateInFile(files.back().path.c_str(), Bytes{uint64_t{8} << 20}));
    ledger.header()->process_end.store(static_cast<uint32_t>(end));
    ledger.Close();
  };
  add(1, 1, ProcessEnd::kRunning);
  add(1, 2, ProcessEnd::kExecuted);
  add(1, 3, ProcessEnd::kExited);
  add(1, 4, ProcessEnd::kRunning);
  add(2, 1, ProcessEnd::kRunning);
  const Harvest harvest = HarvestLedgers(files, LedgerWatch(directory.path()), {});
  ASSERT_EQ(harvest.processes.size(), 5u);
  const bool expected[] = {true, true, false, false, false};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(harvest.processes[i].became_another, expected[i]) << i;
}

TEST(Harvest, TakesAProgramsNameForAPartOfAFilesName) {
  const testing::ScratchDirectory directory;
  const auto program_of = [&](const std::string& program) {
    const LedgerDirectory::LedgerFile file{directory.File("1.1.ledger"), 1, 1};
    std::filesystem::remove(file.path);
    Ledger ledger;
    EXPECT_TRUE(ledger.CreateInFile(file.path.c_str(), Bytes{uint64_t{8} << 20}));
    ledger.header()->program = ledger.InternText(program).value;
    const Harvest harvest = HarvestLedgers({file}, LedgerWatch(directory.path()), {});
    return harvest.processes.empty() ? "none" : harvest.processes[0].program;
  };
  EXPECT_EQ(program_of("app"), "app");
  // Root reads those of everybody.
  EXPECT_EQ(program_of("../../etc/app"), "app");
  EXPECT_EQ(program_of("/"), "");
  EXPECT_EQ(program_of(std::string(255, 'x')), std::string(200, 'x'));
}

}  // namespace
}  // namespace profagent
