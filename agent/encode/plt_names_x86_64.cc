#include <algorithm>
#include <cstring>

#include "agent/encode/plt_names.h"
#include "agent/encode/symbol_table_scan.h"

namespace profagent {
namespace {

constexpr uint64_t kStubSize = 16;  // of .plt and .plt.sec; .plt.got has 8 without CET, 16 with it
constexpr size_t kMaxStubs = 1024;  // named in one module

struct Stub {
  uint64_t start;
  uint64_t slot;   // of the GOT: what it jumps through
  size_t address;  // its index among the addresses
};

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

// The stubs that addresses without a name are in.
size_t FindStubs(const ElfReader& file, std::span<const uint64_t> addresses,
                 std::span<const FunctionSymbol> names, std::span<Stub> stubs) {
  size_t count = 0;
  for (const Elf64_Shdr& section : file.sections()) {
    if ((section.sh_flags & SHF_EXECINSTR) == 0 || !file.NameOf(section).starts_with(".plt")) continue;
    uint64_t stub_size = section.sh_entsize == 8 ? 8 : kStubSize;
    for (size_t i = 0; i < addresses.size() && count < stubs.size(); ++i) {
      uint64_t in_section = addresses[i] - section.sh_addr;
      if (in_section >= section.sh_size || !names[i].name.empty()) continue;
      uint8_t code[kStubSize];
      uint64_t start = in_section / stub_size * stub_size;
      size_t size = file.ReadAt(section.sh_offset + start, code, stub_size);
      uint64_t slot = SlotOf({code, size}, section.sh_addr + start);
      if (slot != 0) stubs[count++] = {section.sh_addr + start, slot, i};
    }
  }
  return count;
}

// The name of the symbol that a relocation puts into its slot.
std::string_view NameOfTarget(const ElfReader& file, const Elf64_Shdr& symbols, const Elf64_Rela& relocation,
                              Arena& arena) {
  uint64_t type = ELF64_R_TYPE(relocation.r_info);
  if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) return {};
  Elf64_Sym symbol;
  uint64_t offset = symbols.sh_offset + ELF64_R_SYM(relocation.r_info) * sizeof symbol;
  if (file.ReadAt(offset, &symbol, sizeof symbol) != sizeof symbol) return {};
  return ReadSymbolName(file, file.sections()[symbols.sh_link], symbol.st_name, "@plt", arena);
}

}  // namespace

void NamePltStubs(const ElfReader& file, std::span<const uint64_t> addresses, std::span<FunctionSymbol> names,
                  Arena& arena) {
  size_t room = std::min(addresses.size(), kMaxStubs);
  Stub* found = arena.AllocateArray<Stub>(room);  // of which only what is used is touched
  if (found == nullptr) return;
  std::span<Stub> stubs(found, FindStubs(file, addresses, names, {found, room}));
  std::sort(stubs.begin(), stubs.end(), [](const Stub& a, const Stub& b) { return a.slot < b.slot; });
  size_t left = stubs.size();

  auto name_by = [&](const Elf64_Shdr& symbols, const Elf64_Rela& relocation) {
    if (relocation.r_offset < stubs.front().slot || relocation.r_offset > stubs.back().slot) return;
    auto stub = std::lower_bound(stubs.begin(), stubs.end(), relocation.r_offset,
                                 [](const Stub& a, uint64_t slot) { return a.slot < slot; });
    std::string_view name;
    for (; left > 0 && stub != stubs.end() && stub->slot == relocation.r_offset; ++stub, --left) {
      if (name.empty()) name = NameOfTarget(file, symbols, relocation, arena);
      names[stub->address] = {name, stub->start};
    }
  };
  // The last first: .rela.plt has the slots of nearly all stubs, and lies behind the long .rela.dyn.
  std::span<const Elf64_Shdr> sections = file.sections();
  for (size_t i = sections.size(); i-- > 0 && left > 0;) {
    const Elf64_Shdr& section = sections[i];
    if (section.sh_type != SHT_RELA || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& symbols = sections[section.sh_link];
    if (symbols.sh_type != SHT_DYNSYM || symbols.sh_link >= sections.size()) continue;
    file.ReadTable<Elf64_Rela>(section.sh_offset, section.sh_size, [&](std::span<const Elf64_Rela> part) {
      for (size_t at = 0; at < part.size() && left > 0; ++at) name_by(symbols, part[at]);
      return left > 0;
    });
  }
}

}  // namespace profagent
