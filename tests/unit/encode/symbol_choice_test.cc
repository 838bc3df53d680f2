// Which of its symbols a file gives an address, in files made for the purpose.
#include <elf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/encode/elf_names.h"

namespace profagent {
namespace {

// A small file of its own: header, three sections (null, symbols, strings), symbols.
struct SmallFile {
  Elf64_Ehdr elf;
  Elf64_Shdr sections[3];
  Elf64_Sym symbols[64];
  char strings[512];

  SmallFile() {
    std::memset(static_cast<void*>(this), 0, sizeof *this);
    std::ifstream(OwnPath(), std::ios::binary).read(reinterpret_cast<char*>(&elf), sizeof elf);
    elf.e_phnum = 0;
    elf.e_shoff = offsetof(SmallFile, sections);
    elf.e_shnum = 3;
    elf.e_shstrndx = 2;
    sections[1].sh_type = SHT_SYMTAB;
    sections[1].sh_flags = SHF_EXECINSTR;
    sections[1].sh_offset = offsetof(SmallFile, symbols);
    sections[1].sh_size = sizeof symbols;  // 0x600
    sections[1].sh_entsize = sizeof(Elf64_Sym);
    sections[1].sh_link = 2;
    sections[2].sh_type = SHT_STRTAB;
    sections[2].sh_offset = offsetof(SmallFile, strings);
    sections[2].sh_size = sizeof strings;
  }

  std::vector<std::string> Names(const std::vector<uint64_t>& addresses,
                                 size_t size = sizeof(SmallFile)) const {
    char path[] = "/tmp/symbol_choice_test.XXXXXX";
    close(mkstemp(path));
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(this), static_cast<std::streamsize>(size));
    std::vector<std::string> names = profagent::Names({path, {}}, addresses);
    unlink(path);
    return names;
  }
};

// The one pass, which leaves out most of what it sees, against the rule, applied to every symbol for every address.
TEST(ElfSymbols, ChoosesWhatAReaderOfTheWholeTableWould) {
  std::mt19937 random(20261128);
  auto below = [&](uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 300; ++round) {
    SmallFile file;
    std::set<uint64_t> starts;
    uint64_t step = 1 + below(0x17);  // from one address in a stretch to many
    while (starts.size() < 64) starts.insert(0x10 + below(0x600));
    uint32_t name = 1;
    size_t at = 0;
    for (uint64_t start : starts) {
      Elf64_Sym& symbol = file.symbols[at];
      bool sized = below(4) != 0;
      constexpr unsigned char kFunction = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
      constexpr unsigned char kLabel = ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE);
      uint64_t size = sized ? 1 + below(below(8) == 0 ? 0x400 : 0x20) : 0;
      symbol = {name, sized ? kFunction : kLabel, 0, 1, start, size};
      name += static_cast<uint32_t>(snprintf(file.strings + name, 8, "s%zu", at) + 1);
      ++at;
    }
    std::shuffle(std::begin(file.symbols), std::end(file.symbols), random);

    std::vector<uint64_t> addresses;
    for (uint64_t address = below(0x100); address < 0x680; address += 1 + below(step))
      addresses.push_back(address);
    std::vector<std::string> names = file.Names(addresses);
    for (size_t i = 0; i < addresses.size(); ++i) {
      const Elf64_Sym *covering = nullptr, *nearest = nullptr;
      for (const Elf64_Sym& symbol : file.symbols) {
        if (symbol.st_value > addresses[i]) continue;
        bool covers = addresses[i] - symbol.st_value < symbol.st_size;
        if (covers && (covering == nullptr || symbol.st_value > covering->st_value)) covering = &symbol;
        if (nearest == nullptr || symbol.st_value > nearest->st_value) nearest = &symbol;
      }
      const Elf64_Sym* right = covering;
      if (right == nullptr && nearest != nullptr && nearest->st_size == 0 && addresses[i] < 0x600)
        right = nearest;
      ASSERT_EQ(names[i], right != nullptr ? file.strings + right->st_name : "")
          << "round " << round << ", 0x" << std::hex << addresses[i];
    }
  }
}

// The same of exported symbols, most of which are passed by unseen: far from all addresses, or
// beginning before all of them and reaching behind the last one, or to where numbers begin again. A label reaches to the next
// symbol, and no further than a page.
TEST(ElfSymbols, PassesByNoExportedSymbolThatCounts) {
  std::mt19937_64 random(20261130);
  auto below = [&](uint64_t limit) { return random() % limit; };
  constexpr uint64_t kReach = 4096;
  int labels = 0, functions = 0;
  for (int round = 0; round < 1000; ++round) {
    constexpr uint64_t kBases[] = {0, 0x1000, (uint64_t{1} << 47) - 0x8000, (uint64_t{1} << 48) - 0x20000};
    const uint64_t base = kBases[round % 4], span = uint64_t{0x400} << below(8);
    SmallFile file;
    file.sections[1].sh_type = SHT_DYNSYM;
    file.sections[2].sh_flags = SHF_EXECINSTR;
    file.sections[2].sh_addr = base + span / 2;
    const uint64_t section_end = file.sections[2].sh_addr + file.sections[2].sh_size;
    std::set<uint64_t> starts;
    for (size_t i = 0, count = 1 + below(63); i < count; ++i) starts.insert(base + below(span));
    std::vector<Elf64_Sym> symbols;
    for (uint64_t start : starts) {
      const bool sized = below(3) != 0;
      constexpr unsigned char kFunction = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
      constexpr unsigned char kLabel = ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE);
      const uint64_t sizes[] = {1 + below(16), 1 + below(256), 1 + below(2 * kReach),
                                uint64_t{1} << below(64), ~below(span)};
      auto name = static_cast<uint32_t>(1 + 8 * symbols.size());
      snprintf(file.strings + name, 8, "s%zu", symbols.size());
      symbols.push_back({name, sized ? kFunction : kLabel, 0, 2, start, sized ? sizes[below(5)] : 0});
    }
    std::shuffle(symbols.begin(), symbols.end(), random);
    std::copy(symbols.begin(), symbols.end(), file.symbols);

    std::set<uint64_t> wanted;
    for (size_t i = 0, count = 1 + below(1 + below(40)); i < count; ++i) {
      const Elf64_Sym& near = symbols[below(symbols.size())];
      const uint64_t places[] = {base + below(span),
                                 near.st_value,
                                 near.st_value - 1,
                                 near.st_value + near.st_size,
                                 near.st_value + kReach,
                                 near.st_value + kReach - 1,
                                 near.st_value + near.st_size - 1};
      uint64_t place = places[below(std::size(places))];
      if (place - base < 2 * span) wanted.insert(place);
    }
    if (wanted.empty()) continue;
    std::vector<uint64_t> addresses(wanted.begin(), wanted.end());
    std::vector<std::string> names = file.Names(addresses);
    for (size_t i = 0; i < addresses.size(); ++i) {
      const Elf64_Sym *covering = nullptr, *nearest = nullptr;
      for (const Elf64_Sym& symbol : symbols) {
        if (symbol.st_value > addresses[i]) continue;
        uint64_t end = symbol.st_size != 0 ? symbol.st_value + symbol.st_size : section_end;
        if (end < symbol.st_value) continue;  // it lies
        bool covers = addresses[i] - symbol.st_value < symbol.st_size;
        if (covers && (covering == nullptr || symbol.st_value > covering->st_value)) covering = &symbol;
        if (nearest == nullptr || symbol.st_value > nearest->st_value) nearest = &symbol;
      }
      const Elf64_Sym* right = covering;
      if (right == nullptr && nearest != nullptr && nearest->st_size == 0 && addresses[i] < section_end &&
          addresses[i] - nearest->st_value < kReach)
        right = nearest;
      if (right != nullptr) ++(right == covering ? functions : labels);
      ASSERT_EQ(names[i], right != nullptr ? file.strings + right->st_name : "")
          << "round " << round << ", 0x" << std::hex << addresses[i];
    }
  }
  EXPECT_GT(labels, 300);
  EXPECT_GT(functions, 2000);
}

// What follows an exported label is mostly not exported, and so not there to end it.
TEST(ElfSymbols, AnExportedLabelReachesAPage) {
  SmallFile file;
  std::memcpy(file.strings, "\0label", 7);
  file.sections[2].sh_flags = SHF_EXECINSTR;
  file.sections[2].sh_addr = 0x10000;
  file.symbols[1] = {1, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), 0, 2, 0x1000, 0};
  using Expected = std::vector<std::string>;
  EXPECT_EQ(file.Names({0x1000, 0x1fff, 0x2000}), (Expected{"label", "label", "label"}));
  file.sections[1].sh_type = SHT_DYNSYM;
  EXPECT_EQ(file.Names({0x1000, 0x1fff, 0x2000}), (Expected{"label", "label", ""}));
}

// A file that lies about itself must cost names, never more.
TEST(ElfSymbols, SurvivesFilesThatLie) {
  SmallFile file;
  auto reset = [&] {
    file = SmallFile();
    std::memcpy(file.strings, "\0everything\0label", 18);
    for (Elf64_Sym& symbol : file.symbols) {
      symbol = {1, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, 0x100, 0x1000};
    }
  };
  auto name_at = [&](uint64_t address, size_t size = sizeof file) { return file.Names({address}, size)[0]; };
  reset();
  EXPECT_EQ(name_at(0x200), "everything");
  EXPECT_EQ(name_at(0x1100), "");
  EXPECT_EQ(name_at(0xff), "");

  reset();  // a label reaches to the end of its section, not beyond
  for (Elf64_Sym& symbol : file.symbols) symbol = {12, ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), 0, 1, 0x100, 0};
  EXPECT_EQ(name_at(0x5ff), "label");
  EXPECT_EQ(name_at(0x600), "");

  reset();  // an exported one no further than 4 KiB: what would end it is not exported
  for (Elf64_Sym& symbol : file.symbols) symbol = {12, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), 0, 1, 0x100, 0};
  file.sections[1].sh_size = 0x9000;
  EXPECT_EQ(name_at(0x5000), "label");
  file.sections[1].sh_type = SHT_DYNSYM;
  EXPECT_EQ(name_at(0x10ff), "label");
  EXPECT_EQ(name_at(0x1100), "");

  reset();  // a label behind a function that ended does not reach past it
  file.symbols[0] = {12, ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), 0, 1, 0x80, 0};
  for (size_t i = 1; i < 64; ++i) file.symbols[i].st_size = 0x10;
  EXPECT_EQ(name_at(0x90), "label");
  EXPECT_EQ(name_at(0x200), "");

  reset();
  file.sections[1].sh_size = UINT64_MAX;
  EXPECT_EQ(name_at(0x200), "everything");
  reset();
  file.sections[1].sh_offset = UINT64_MAX - 5;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  file.sections[1].sh_link = 77;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  file.elf.e_shoff = UINT64_MAX - 10;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  file.elf.e_shnum = 0xffff;
  EXPECT_EQ(name_at(0x200), "everything");  // what is there of them
  reset();
  file.elf.e_shnum = 0;
  file.sections[0].sh_size = UINT64_MAX;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  for (Elf64_Sym& symbol : file.symbols) symbol.st_size = UINT64_MAX;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  for (Elf64_Sym& symbol : file.symbols) symbol.st_name = 1000;
  EXPECT_EQ(name_at(0x200), "");
  reset();
  std::memset(file.strings, 'x', sizeof file.strings);  // a name without an end
  EXPECT_EQ(name_at(0x200), "");
  reset();
  for (size_t size = 0; size < sizeof file; size += 37) name_at(0x200, size);  // cut anywhere
}

}  // namespace
}  // namespace profagent
