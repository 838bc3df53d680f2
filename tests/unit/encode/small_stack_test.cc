// Writing a profile happens inside handlers, on a stack of the agent's own: how much of it is used is part of the
// contract.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "agent/encode/elf_symbols.h"
#include "agent/encode/profile_file.h"
#include "tests/unit/encode/test_ledger.h"
#include "tests/unit/sanitized.h"

namespace profagent {
namespace {

constexpr size_t kStackSize = 64 * 1024;
constexpr size_t kMostUsed = 40 * 1024;
constexpr unsigned char kPaint = 0xa5;

const LedgerView* g_view;
std::string* g_path;
bool g_written;
ucontext_t g_back, g_there;

void WriteOnSmallStack() {
  Arena arena;
  ElfSymbols symbols(arena, ElfSymbols::Origin::kThisProcess);
  g_written = static_cast<bool>(WriteProfileFile(g_path->c_str(), [&](ByteSink sink) {
    return EncodeProfileGzip(*g_view, RequestEndingAt(9'000'000'000), symbols, arena, sink);
  }));
}

TEST(SmallStack, HoldsAllThatWritingAProfileTakes) {
  if (testing::kSanitized) GTEST_SKIP() << "sanitizers make frames larger";
  TestLedger ledger(8 << 20);
  char self[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  ledger.AddModule(1, kModuleIsProgram, self, 0, {});
  std::vector<Frame> deep;
  for (uint64_t i = 0; i < 1000; ++i) deep.push_back(In(1, i * 64));
  ledger.Add(deep, "worker", 1);
  for (uint64_t i = 0; i < 20000; ++i) ledger.Add({In(1, i * 16), In(1, i)}, "worker", 1 + i % 3);
  LedgerView view = ledger.view();
  g_view = &view;
  std::string path = "/tmp/small_stack_test." + std::to_string(getpid());
  g_path = &path;

  // In the middle of pages that may not be touched.
  auto* pages = static_cast<unsigned char*>(
      mmap(nullptr, 3 * kStackSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  unsigned char* stack = pages + kStackSize;
  ASSERT_EQ(mprotect(stack, kStackSize, PROT_READ | PROT_WRITE), 0);
  std::memset(stack, kPaint, kStackSize);
  ASSERT_EQ(getcontext(&g_there), 0);
  g_there.uc_stack.ss_sp = stack;
  g_there.uc_stack.ss_size = kStackSize;
  g_there.uc_link = &g_back;
  makecontext(&g_there, WriteOnSmallStack, 0);
  ASSERT_EQ(swapcontext(&g_back, &g_there), 0);

  EXPECT_TRUE(g_written);
  auto* lowest = std::find_if(stack, stack + kStackSize, [](unsigned char byte) { return byte != kPaint; });
  size_t used = static_cast<size_t>(stack + kStackSize - lowest);
  RecordProperty("stack_bytes", static_cast<int>(used));
  EXPECT_LE(used, kMostUsed);
  EXPECT_GT(used, size_t{4096});  // or it did not run there
  munmap(pages, 3 * kStackSize);
  unlink(path.c_str());
}

}  // namespace
}  // namespace profagent
