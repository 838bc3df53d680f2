// Broken ELF files: whatever their bytes are, reading names ends and reads nothing outside. tests/fuzz/elf_fuzzer.cc searches
// further.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/elf_input.h"

namespace profagent {
namespace {

// Or what follows damages nothing that is read.
TEST(ElfDamage, BeginsWithAFileThatHasNamesOfEveryKind) {
  uint8_t whole[2] = {0xff, 0xff};
  std::vector<std::string> names = TryElf(whole, sizeof whole);
  ASSERT_EQ(names.size(), 7u);
  EXPECT_EQ(names[0], "first");
  EXPECT_EQ(names[1], "label");
  EXPECT_NE(names[2].find("+0x"), std::string::npos) << names[2];
  EXPECT_NE(names[3].find("+0x"), std::string::npos) << names[3];
  EXPECT_EQ(names[4], "callee@plt");
  EXPECT_EQ(names[5], "other@plt");
  EXPECT_EQ(names[6], "variable");
}

TEST(ElfDamage, ReadsWhateverIsThere) {
  std::mt19937_64 random(1128);
  constexpr uint64_t kExtremes[] = {0,          1,         0xff,       0xffff,        0x7fffffff,
                                    0xffffffff, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
  size_t named = 0;
  for (int round = 0; round < 4'000; ++round) {
    std::vector<uint8_t> input(2 + 11 * (1 + random() % 3));
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
    if (random() % 4 != 0) input[0] = input[1] = 0xff;
    for (size_t at = 2; at < input.size(); at += 11) {
      uint16_t where = static_cast<uint16_t>(random() % sizeof(ElfWithNames));
      std::memcpy(&input[at], &where, sizeof where);
      if (random() % 2 == 0) std::memcpy(&input[at + 3], &kExtremes[random() % std::size(kExtremes)], 8);
    }
    named += !TryElf(input.data(), input.size()).empty();
  }
  EXPECT_GT(named, 1'000u);  // and most damage is not so bad that nothing is read
}

}  // namespace
}  // namespace profagent
