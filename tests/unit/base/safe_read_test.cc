#include "agent/base/safe_read.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace profagent {
namespace {

TEST(SafeRead, CopiesWhatIsThere) {
  const char text[] = "readable";
  char copy[sizeof text] = {};
  EXPECT_EQ(SafeRead(reinterpret_cast<uintptr_t>(text), copy, sizeof text), sizeof text);
  EXPECT_STREQ(copy, text);
}

// The stack of a coroutine ends somewhere, and a read past it must not be a crash of the program.
TEST(SafeRead, StopsAtTheEndOfWhatIsMapped) {
  auto* pages =
      static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  std::memset(pages, 'x', 4096);
  ASSERT_EQ(mprotect(pages + 4096, 4096, PROT_NONE), 0);
  char copy[64] = {};
  size_t got = SafeRead(reinterpret_cast<uintptr_t>(pages + 4096 - 16), copy, sizeof copy);
  EXPECT_LE(got, 16u);  // the kernel copies a whole piece or, at a page's end, the part before it
  EXPECT_EQ(SafeRead(reinterpret_cast<uintptr_t>(pages + 4096), copy, sizeof copy), 0u);
  munmap(pages, 8192);
  EXPECT_EQ(SafeRead(reinterpret_cast<uintptr_t>(pages), copy, sizeof copy), 0u);
}

TEST(SafeRead, TakesAddressesThatNobodyHas) {
  char copy[64];
  for (uintptr_t address : {uintptr_t{0}, uintptr_t{1}, uintptr_t{1} << 63, UINTPTR_MAX - 5, UINTPTR_MAX}) {
    EXPECT_EQ(SafeRead(address, copy, sizeof copy), 0u) << address;
  }
}

TEST(SafeRead, LeavesErrnoAlone) {
  errno = 4242;
  char copy[8];
  (void)SafeRead(1, copy, sizeof copy);
  EXPECT_EQ(errno, 4242);
}

}  // namespace
}  // namespace profagent
