// Damages an ELF file that has all that names are read from, and asks for the names. Shared by the fuzzer and by the unit test
// that runs with every build.
//
// Nothing is expected of the names but that they come, without a read outside of what was read, and that none is of a function
// that begins behind its address.
#pragma once

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "agent/encode/elf_symbols.h"

namespace profagent {

// As the file: what its headers say of it is in the constructor. Addresses are offsets in the file.
struct ElfWithNames {
  enum {
    kNull,
    kText,
    kPlt,
    kRelocations,
    kSymbols,
    kStrings,
    kFrameHeader,
    kFrames,
    kSectionNames,
    kSections
  };
  static constexpr uint32_t kFunctions = 4;
  static constexpr uint32_t kFunctionSize = 64;
  static constexpr char kNames[] = "\0.text\0.plt\0.eh_frame_hdr\0.eh_frame";
  static constexpr uint8_t kBuildId[4] = {1, 2, 3, 4};

  Elf64_Ehdr header;
  Elf64_Phdr segment;
  Elf64_Shdr sections[kSections];
  struct {
    Elf64_Nhdr head;
    char owner[4];
    uint8_t id[4];
  } note;
  uint8_t text[kFunctions * kFunctionSize];
  uint8_t plt[2][16];
  Elf64_Rela relocations[2];
  Elf64_Sym symbols[6];
  char strings[64];
  struct {
    uint8_t version, pointer, count_encoding, table_encoding;
    int32_t frames;
    uint32_t count;
    int32_t table[kFunctions][2];
  } frame_header;
  struct {
    uint32_t length, cie;
    int32_t begin;
    uint32_t range;
  } frames[kFunctions];
  char section_names[sizeof kNames];

  ElfWithNames();

 private:
  void Place(int section, uint32_t type, uint64_t flags, const void* start, size_t size, uint32_t name,
             uint32_t link) {
    uint64_t offset = OffsetOf(start);
    sections[section] = {name, type, flags, offset, offset, size, link, 0, 1, 0};
  }
  uint64_t OffsetOf(const void* part) const {
    return static_cast<uint64_t>(static_cast<const char*>(part) - reinterpret_cast<const char*>(this));
  }
};

inline ElfWithNames::ElfWithNames() {
  std::memset(static_cast<void*>(this), 0, sizeof *this);
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = EM_X86_64;
  header.e_phoff = OffsetOf(&segment);
  header.e_phnum = 1;
  header.e_phentsize = sizeof segment;
  header.e_shoff = OffsetOf(sections);
  header.e_shnum = kSections;
  header.e_shentsize = sizeof sections[0];
  header.e_shstrndx = kSectionNames;
  segment.p_type = PT_NOTE;
  segment.p_offset = OffsetOf(&note);
  segment.p_filesz = sizeof note;
  note.head = {sizeof note.owner, sizeof note.id, NT_GNU_BUILD_ID};
  std::memcpy(note.owner, "GNU", sizeof note.owner);
  std::memcpy(note.id, kBuildId, sizeof kBuildId);

  Place(kText, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, text, sizeof text, 1, 0);
  Place(kPlt, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, plt, sizeof plt, 7, 0);
  Place(kRelocations, SHT_RELA, SHF_ALLOC, relocations, sizeof relocations, 0, kSymbols);
  Place(kSymbols, SHT_DYNSYM, SHF_ALLOC, symbols, sizeof symbols, 0, kStrings);
  Place(kStrings, SHT_STRTAB, SHF_ALLOC, strings, sizeof strings, 0, 0);
  Place(kFrameHeader, SHT_PROGBITS, SHF_ALLOC, &frame_header, sizeof frame_header, 12, 0);
  Place(kFrames, SHT_PROGBITS, SHF_ALLOC, frames, sizeof frames, 26, 0);
  Place(kSectionNames, SHT_STRTAB, 0, section_names, sizeof section_names, 0, 0);
  std::memcpy(section_names, kNames, sizeof kNames);
  sections[kSymbols].sh_entsize = sizeof symbols[0];

  // Function 0 has a size and two names, 1 is a label's, 2 and 3 have none; what the stubs call is elsewhere.
  std::memcpy(strings, "\0first\0_first\0label\0callee\0other\0variable", 42);
  constexpr unsigned char kFunction = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
  uint64_t start = OffsetOf(text);
  symbols[0] = {1, kFunction, 0, kText, start, kFunctionSize};
  symbols[1] = {7, kFunction, 0, kText, start, kFunctionSize};
  symbols[2] = {14, ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), 0, kText, start + kFunctionSize, 0};
  symbols[3] = {20, kFunction, 0, SHN_UNDEF, 0, 0};
  symbols[4] = {27, kFunction, 0, SHN_UNDEF, 0, 0};
  symbols[5] = {33, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, kStrings, OffsetOf(strings), sizeof strings};
  for (uint32_t i = 0; i < 2; ++i) {
    constexpr int32_t kDistance = 0x1000;  // from the end of the jump to its slot
    plt[i][0] = 0xff;
    plt[i][1] = 0x25;
    std::memcpy(plt[i] + 2, &kDistance, sizeof kDistance);
    relocations[i] = {OffsetOf(plt[i]) + 6 + kDistance, ELF64_R_INFO(3 + i, R_X86_64_JUMP_SLOT), 0};
  }

  frame_header = {1, 0x1b, 0x03, 0x3b, 0, kFunctions, {}};
  auto header_at = static_cast<int32_t>(OffsetOf(&frame_header));
  for (uint32_t i = 0; i < kFunctions; ++i) {
    auto begin = static_cast<int32_t>(start + i * kFunctionSize);
    frame_header.table[i][0] = begin - header_at;
    frame_header.table[i][1] = static_cast<int32_t>(OffsetOf(&frames[i])) - header_at;
    frames[i] = {12, 4, begin - static_cast<int32_t>(OffsetOf(&frames[i].begin)), kFunctionSize};
  }
}

// Each edit is 11 bytes: where (2), how wide (1), and what is written there (8); the first two bytes of all say where the file is
// cut. What was named is in the answer.
inline std::vector<std::string> TryElf(const uint8_t* data, size_t size) {
  ElfWithNames file;
  size_t length = sizeof file;
  if (size >= 2) {
    uint16_t cut = 0;
    std::memcpy(&cut, data, sizeof cut);
    if (cut < sizeof file) length = cut;
  }
  for (size_t at = 2; at + 11 <= size; at += 11) {
    uint16_t where = 0;
    std::memcpy(&where, data + at, sizeof where);
    size_t width = size_t{1} << data[at + 2] % 4;
    if (where + width <= sizeof file)
      std::memcpy(reinterpret_cast<char*>(&file) + where, data + at + 3, width);
  }

  static const int fd = memfd_create("elf", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(length)) != 0 ||
      pwrite(fd, &file, length, 0) != static_cast<ssize_t>(length)) {
    abort();
  }
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  LedgerView::Module module{};
  module.id = ModuleId{1};
  module.path = path;
  module.build_id = ElfWithNames::kBuildId;
  std::vector<uint64_t> addresses;
  for (uint64_t address = 0; address < sizeof file; address += 16) addresses.push_back(address);
  addresses.push_back(UINT64_MAX);

  std::vector<std::string> found;
  for (SymbolKind kind : {SymbolKind::kFunctions, SymbolKind::kVariables}) {
    Arena arena;
    std::vector<FunctionSymbol> names(addresses.size());
    ElfSymbols{arena, ElfSymbols::Origin::kElsewhere}(SymbolRequest{module, "/", addresses, kind}, names);
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i].name.empty()) continue;
      if (names[i].start > addresses[i]) abort();
      if (found.empty() || found.back() != names[i].name) found.emplace_back(names[i].name);
    }
  }
  return found;
}

}  // namespace profagent
