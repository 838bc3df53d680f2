#include "symbolizer/check/elf_facts.h"

#include <elf.h>
#include <gelf.h>

#include <algorithm>
#include <cstring>

namespace profagent {
namespace {

void ReadSegments(const ElfFile& file, const GElf_Ehdr& header, ElfFacts* facts) {
  facts->loaded_size = header.e_phoff + uint64_t{header.e_phnum} * header.e_phentsize;
  size_t count = 0;
  if (elf_getphdrnum(file.elf(), &count) != 0) return;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr program;
    if (gelf_getphdr(file.elf(), static_cast<int>(i), &program) == nullptr) return;
    if (program.p_type == PT_LOAD && program.p_filesz != 0) {
      facts->loaded_size = std::max(facts->loaded_size, program.p_offset + program.p_filesz);
    }
    if (program.p_type == PT_DYNAMIC) facts->is_dynamic = true;
    if (program.p_type == PT_GNU_EH_FRAME) facts->has_eh_frame_header = true;
    if (program.p_type == PT_INTERP) {
      size_t size = 0;
      const char* bytes = elf_rawfile(file.elf(), &size);
      if (bytes == nullptr || program.p_offset >= size) continue;
      size_t room = std::min<size_t>(program.p_filesz, size - program.p_offset);
      facts->interpreter.assign(bytes + program.p_offset, strnlen(bytes + program.p_offset, room));
    }
  }
}

void ReadDynamic(const ElfFile& file, Elf_Scn* section, const GElf_Shdr& header, ElfFacts* facts) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  for (size_t i = 0; i < header.sh_size / header.sh_entsize; ++i) {
    GElf_Dyn entry;
    if (gelf_getdyn(data, static_cast<int>(i), &entry) == nullptr || entry.d_tag == DT_NULL) return;
    if (entry.d_tag == DT_FLAGS_1 && (entry.d_un.d_val & DF_1_PIE) != 0) facts->is_pie = true;
    if (entry.d_tag == DT_SONAME) facts->has_soname = true;
    if (entry.d_tag != DT_NEEDED) continue;
    const char* name = elf_strptr(file.elf(), header.sh_link, entry.d_un.d_val);
    if (name != nullptr) facts->needed.emplace_back(name);
  }
}

void ReadSymbols(const ElfFile& file, Elf_Scn* section, const GElf_Shdr& header, ElfFacts* facts) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  for (size_t i = 1; i < header.sh_size / header.sh_entsize; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) return;
    unsigned type = GELF_ST_TYPE(symbol.st_info);
    if (type != STT_FUNC && type != STT_NOTYPE && type != STT_GNU_IFUNC) continue;
    const char* name = elf_strptr(file.elf(), header.sh_link, symbol.st_name);
    if (name == nullptr || *name == '\0') continue;
    // `free@GLIBC_2.2.5` in .symtab is `free`.
    std::string_view base(name, std::strcspn(name, "@"));
    (symbol.st_shndx == SHN_UNDEF ? facts->undefined : facts->defined).emplace(base);
    if (header.sh_type == SHT_DYNSYM && symbol.st_shndx != SHN_UNDEF && base == "malloc")
      facts->exports_malloc = true;
  }
}

}  // namespace

bool ElfFacts::Needs(std::string_view library_prefix) const {
  return std::any_of(needed.begin(), needed.end(),
                     [&](const std::string& library) { return library.starts_with(library_prefix); });
}

ElfFacts FactsOf(const ElfFile& file) {
  ElfFacts facts;
  GElf_Ehdr header;
  if (gelf_getehdr(file.elf(), &header) == nullptr) return facts;
  facts.is_64_bit = header.e_ident[EI_CLASS] == ELFCLASS64;
  facts.machine = header.e_machine;
  facts.type = header.e_type;
  facts.has_eh_frame = file.HasSection(".eh_frame");
  facts.is_go = file.HasSection(".go.buildinfo") || file.HasSection(".note.go.buildid");
  size_t size = 0;
  if (elf_rawfile(file.elf(), &size) != nullptr) facts.size = size;
  ReadSegments(file, header, &facts);
  Elf_Scn* section = nullptr;
  while ((section = elf_nextscn(file.elf(), section)) != nullptr) {
    GElf_Shdr shdr;
    if (gelf_getshdr(section, &shdr) == nullptr) continue;
    if (shdr.sh_type == SHT_DYNAMIC) ReadDynamic(file, section, shdr, &facts);
    if (shdr.sh_type == SHT_NOBITS && (shdr.sh_flags & SHF_EXECINSTR) != 0) facts.is_debug_file = true;
    if (shdr.sh_type == SHT_SYMTAB) facts.has_symbol_table = true;
    if (shdr.sh_type == SHT_SYMTAB || shdr.sh_type == SHT_DYNSYM) ReadSymbols(file, section, shdr, &facts);
  }
  return facts;
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_386:
      return "x86 with 32 bits";
    case EM_AARCH64:
      return "AArch64";
    case EM_ARM:
      return "ARM with 32 bits";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "POWER";
    case EM_S390:
      return "S/390";
    default:
      return "machine " + std::to_string(machine);
  }
}

}  // namespace profagent
