// The fuzzer's work (tests/fuzz/ledger_fuzzer.cc) in small, with fixed seeds, in every ordinary run.

#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/ledger_input.h"

namespace profagent {
namespace {

TEST(LedgerDamage, WholeLedgerIsRead) { ReadAndEncode(WholeLedger()); }

TEST(LedgerDamage, EditsOfALedgerAreSurvived) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> input = {1};
    for (uint64_t edits = 1 + random() % 20; edits > 0; --edits) {
      uint64_t place = random() % (random() % 8 == 0 ? 65536 : WholeLedger().size() * 2);
      // Small numbers and multiples of what is there make better ids than noise.
      uint64_t value = random() % 3 == 0 ? random() : random() % (WholeLedger().size() + 4);
      for (int i = 0; i < 2; ++i) input.push_back(static_cast<uint8_t>(place >> 8 * i));
      for (int i = 0; i < 4; ++i) input.push_back(static_cast<uint8_t>(value >> 8 * i));
    }
    TakeLedgerInput(input);
  }
}

TEST(LedgerDamage, NoiseIsSurvived) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 500; ++round) {
    std::vector<uint8_t> input(1 + random() % 3000);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random() % (round % 2 ? 256 : 3));
    input[0] = static_cast<uint8_t>(random() % 4 * 2);
    TakeLedgerInput(input);
  }
}

}  // namespace
}  // namespace profagent
