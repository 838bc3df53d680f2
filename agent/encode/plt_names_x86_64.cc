#include <cstring>

#include "agent/encode/plt_names.h"
#include "agent/encode/symbol_table_scan.h"

namespace profagent {
namespace {

constexpr uint64_t kStubSize = 16;    // of .plt and .plt.sec; .plt.got has 8 without CET, 16 with it
constexpr uint64_t kMaxStubs = 1024;  // named in one module; each costs a pass over the relocations

// The GOT slot that the stub's `jmp *slot(%rip)` (ff 25 and a 32-bit distance, perhaps behind endbr64 or bnd) goes
// through; 0: no such jump.
uint64_t SlotOf(std::span<const uint8_t> stub, uint64_t stub_address) {
  for (size_t i = 0; i + 6 <= stub.size(); ++i) {
    if (stub[i] != 0xff || stub[i + 1] != 0x25) continue;
    int32_t distance;
    std::memcpy(&distance, stub.data() + i + 2, sizeof distance);
    return stub_address + i + 6 + static_cast<uint64_t>(static_cast<int64_t>(distance));
  }
  return 0;
}

// The name of the symbol that the dynamic linker puts into the slot.
std::string_view NameOfSlot(const ElfReader& file, uint64_t slot, Arena& arena) {
  std::span<const Elf64_Shdr> sections = file.sections();
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_RELA || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& symbols = sections[section.sh_link];
    if (symbols.sh_type != SHT_DYNSYM || symbols.sh_link >= sections.size()) continue;
    Elf64_Rela part[64];
    for (uint64_t at = 0; at < section.sh_size;) {
      uint64_t want = section.sh_size - at < sizeof part ? section.sh_size - at : sizeof part;
      size_t got = file.ReadAt(section.sh_offset + at, part, want);
      for (size_t i = 0; i < got / sizeof part[0]; ++i) {
        if (part[i].r_offset != slot) continue;
        uint32_t type = ELF64_R_TYPE(part[i].r_info);
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) return {};
        Elf64_Sym symbol;
        uint64_t index = ELF64_R_SYM(part[i].r_info);
        if (file.ReadAt(symbols.sh_offset + index * sizeof symbol, &symbol, sizeof symbol) != sizeof symbol)
          return {};
        return ReadSymbolName(file, sections[symbols.sh_link], symbol.st_name, "@plt", arena);
      }
      if (got < want) break;
      at += got;
    }
  }
  return {};
}

}  // namespace

void NamePltStubs(ElfReader& file, std::span<const uint64_t> addresses, std::span<FunctionSymbol> names,
                  Arena& arena) {
  uint64_t named = 0;
  for (const Elf64_Shdr& section : file.sections()) {
    if ((section.sh_flags & SHF_EXECINSTR) == 0 || !file.NameOf(section).starts_with(".plt")) continue;
    uint64_t stub_size = section.sh_entsize == 8 ? 8 : kStubSize;
    for (size_t i = 0; i < addresses.size() && named < kMaxStubs; ++i) {
      uint64_t in_section = addresses[i] - section.sh_addr;
      if (in_section >= section.sh_size || !names[i].name.empty()) continue;
      uint8_t stub[kStubSize];
      uint64_t start = in_section / stub_size * stub_size;
      size_t size = file.ReadAt(section.sh_offset + start, stub, stub_size);
      uint64_t slot = SlotOf({stub, size}, section.sh_addr + start);
      if (slot == 0) continue;
      names[i] = {NameOfSlot(file, slot, arena), section.sh_addr + start};
      ++named;
    }
  }
}

}  // namespace profagent
