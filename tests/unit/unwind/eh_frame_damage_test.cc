// Broken unwind tables: whatever their bytes are, a decoding ends and reads nothing outside.
//
// The tables of this program's libraries are copied to the end of a mapping, with inaccessible pages on both sides, and
// damaged 100 000 times. tests/fuzz/eh_frame_fuzzer.cc searches further.
#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <random>

#include "tests/fuzz/eh_frame_input.h"

namespace profagent {
namespace {

struct Tables {
  const uint8_t* segment = nullptr;
  size_t size = 0;
  size_t header_offset = 0;
};

// .eh_frame_hdr and .eh_frame of libgcc_s: together some 20 KiB in one segment.
Tables FindTables() {
  Tables tables;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (strstr(info->dlpi_name, "libgcc_s") == nullptr) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_GNU_EH_FRAME) continue;
          for (int j = 0; j < info->dlpi_phnum; ++j) {
            const auto& load = info->dlpi_phdr[j];
            if (load.p_type != PT_LOAD || header.p_vaddr < load.p_vaddr ||
                header.p_vaddr >= load.p_vaddr + load.p_filesz) {
              continue;
            }
            auto* found = static_cast<Tables*>(out);
            found->segment = reinterpret_cast<const uint8_t*>(info->dlpi_addr + load.p_vaddr);
            found->size = load.p_filesz;
            found->header_offset = header.p_vaddr - load.p_vaddr;
          }
        }
        return 1;
      },
      &tables);
  return tables;
}

class EhFrameDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    original_ = FindTables();
    ASSERT_NE(original_.segment, nullptr);
    size_t pages = (original_.size + 4095) / 4096 * 4096;
    mapped_size_ = pages + 2 * 4096;
    mapping_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    copy_ = mapping_ + 4096 + pages - original_.size;
    mprotect(mapping_, 4096, PROT_NONE);
    mprotect(mapping_ + 4096 + pages, 4096, PROT_NONE);
    memcpy(copy_, original_.segment, original_.size);
  }
  void TearDown() override { munmap(mapping_, mapped_size_); }

  MemoryRange Segment() const {
    auto start = reinterpret_cast<uintptr_t>(copy_);
    return {start, start + original_.size};
  }
  EhFrameTables Read() {
    MemoryRange segment = Segment();
    return ReadEhFrameHeader(segment.start + original_.header_offset, &segment, 1, segment.start);
  }

  Tables original_;
  uint8_t* mapping_ = nullptr;
  uint8_t* copy_ = nullptr;
  size_t mapped_size_ = 0;
};

TEST_F(EhFrameDamage, NeverFaultsOrLoops) {
  std::mt19937_64 random(20261123);
  EhFrameTables whole = Read();
  ASSERT_GT(whole.table_count, 10u);
  std::vector<uintptr_t> starts;
  for (uint64_t i = 0; i < whole.table_count; ++i) {
    starts.push_back(TableValue(whole, whole.table + i * 8, 4));
  }
  uint64_t decoded = 0, broken = 0;
  size_t frame_offset = whole.eh_frame - Segment().start;
  for (int round = 0; round < 100'000; ++round) {
    // A few bytes near each other, in the tables; sometimes the header itself.
    size_t base = round % 8 == 0 ? original_.header_offset : frame_offset;
    size_t at = base + random() % (original_.size - base);
    size_t count = 1 + random() % 4;
    uint8_t saved[4];
    for (size_t i = 0; i < count; ++i) {
      size_t place = at + i < original_.size ? at + i : at;
      saved[i] = copy_[place];
      copy_[place] = static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random());
    }
    EhFrameTables tables = Read();
    if (!tables.segment.empty()) {
      uint64_t first = random() % starts.size();
      for (uint64_t i = 0; i < 8; ++i) {
        uintptr_t pc = starts[(first + i) % starts.size()] + random() % 64;
        (TryTables(tables, nullptr, pc) >= 2 ? decoded : broken) += 1;
      }
      // Every 100th time from front to back, as where there is no table.
      if (round % 100 == 0) {
        tables.table = 0;
        TryTables(tables, nullptr, starts[first] + 1);
      }
    }
    for (size_t i = count; i > 0; --i) {
      size_t place = at + i - 1 < original_.size ? at + i - 1 : at;
      copy_[place] = saved[i - 1];
    }
  }
  EXPECT_GT(decoded, 400'000u);
  EXPECT_GT(broken, 1'000u);
}

TEST_F(EhFrameDamage, SurvivesTablesThatEndAnywhere) {
  EhFrameTables whole = Read();
  uintptr_t pc = TableValue(whole, whole.table, 4);
  for (size_t cut = 0; cut < original_.size; cut += 1 + cut / 64) {
    // The segment's end moved to the front: what is behind it is not there.
    MemoryRange segment = {Segment().limit - cut, Segment().limit};
    EhFrameTables tables = ReadEhFrameHeader(segment.start, &segment, 1, 0);
    TryTables(tables, nullptr, pc);
    tables.segment = segment;
    tables.eh_frame = segment.start;
    TryTables(tables, nullptr, pc);
  }
}

TEST(EhFrameFuzz, SurvivesNoise) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 50'000; ++round) {
    std::vector<uint8_t> bytes(16 + random() % 200);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random() % 4 == 0 ? random() % 24 : random());
    TryEhFrame(bytes.data(), bytes.size());
  }
}

}  // namespace
}  // namespace profagent
