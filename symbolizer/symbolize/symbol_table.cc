#include "symbolizer/symbolize/symbol_table.h"

#include <gelf.h>

#include <algorithm>
#include <cstring>

#include "symbolizer/symbolize/byte_reader.h"

namespace profagent {
namespace {

constexpr uint64_t kExportedLabelReach = 4096;  // as the agent has it (agent/encode/symbol_table_scan.cc)

// The order in which perf chooses, so that both name a function alike: a name with a size, not weak, global,
// with few underscores in front (`malloc`, not `__libc_malloc`).
uint8_t RankOf(const GElf_Sym& symbol, std::string_view name) {
  unsigned underscores = static_cast<unsigned>(std::min<size_t>(name.find_first_not_of('_'), 15));
  unsigned rank = underscores;
  if (GELF_ST_BIND(symbol.st_info) != STB_GLOBAL) rank |= 16;
  if (GELF_ST_BIND(symbol.st_info) == STB_WEAK) rank |= 32;
  if (symbol.st_size == 0) rank |= 64;
  return static_cast<uint8_t>(rank);
}

bool IsFunction(const GElf_Sym& symbol) {
  switch (GELF_ST_TYPE(symbol.st_info)) {
    case STT_FUNC:
    case STT_GNU_IFUNC:
    case STT_NOTYPE:  // assembly
      return true;
    default:
      return false;
  }
}

}  // namespace

void SymbolTable::Add(const ElfFile& file) {
  for (uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    size_t before = symbols_.size();
    Elf_Scn* section = nullptr;
    while ((section = elf_nextscn(file.elf(), section)) != nullptr) {
      GElf_Shdr header;
      if (gelf_getshdr(section, &header) == nullptr || header.sh_type != wanted || header.sh_entsize == 0) {
        continue;
      }
      Elf_Data* data = elf_getdata(section, nullptr);
      if (data == nullptr) continue;
      size_t count = header.sh_size / header.sh_entsize;
      symbols_.reserve(symbols_.size() + count);
      for (size_t i = 1; i < count; ++i) {
        GElf_Sym symbol;
        if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr) break;
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || !IsFunction(symbol)) continue;
        if (!file.HasCodeAt(symbol.st_value)) continue;
        const char* name = elf_strptr(file.elf(), header.sh_link, symbol.st_name);
        // Mapping symbols and assembler labels are no functions.
        if (name == nullptr || *name == '\0' || *name == '$' || std::strncmp(name, ".L", 2) == 0) continue;
        std::string_view base(name);
        if (const size_t version = base.find('@'); version > 0) base = base.substr(0, version);
        symbols_.push_back({symbol.st_value, symbol.st_size, base, RankOf(symbol, base)});
      }
    }
    if (symbols_.size() > before) {
      if (wanted == SHT_SYMTAB) only_dynamic_ = false;
      sorted_ = false;
      break;
    }
  }
}

void SymbolTable::AddStarts(const ElfFile& file) {
  constexpr char kTable[] = ".eh_frame_hdr";
  // Version 1; what linkers write: pcrel|sdata4, udata4, datarel|sdata4.
  constexpr std::string_view kEncodings = "\x01\x1b\x03\x3b";
  std::string_view bytes = file.Section(kTable);
  if (!bytes.starts_with(kEncodings)) return;
  ByteReader reader(bytes);
  reader.Skip(8);
  for (uint64_t left = reader.Fixed(4); left > 0 && reader.left() >= 8; --left) {
    const auto distance = static_cast<int32_t>(reader.Fixed(4));
    starts_.push_back(file.SectionAddress(kTable) + static_cast<uint64_t>(int64_t{distance}));
    reader.Skip(4);  // where its description is
  }
  std::sort(starts_.begin(), starts_.end());
}

void SymbolTable::Sort() {
  std::sort(symbols_.begin(), symbols_.end(), [](const Symbol& a, const Symbol& b) {
    if (a.address != b.address) return a.address < b.address;
    if (a.rank != b.rank) return a.rank < b.rank;
    if (a.size != b.size) return a.size > b.size;
    return a.name < b.name;
  });
  sorted_ = true;
}

const Symbol* SymbolTable::Find(uint64_t address) {
  if (!sorted_) Sort();
  const uint64_t label_reach = only_dynamic_ ? kExportedLabelReach : UINT64_MAX;
  auto after = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                                [](uint64_t value, const Symbol& symbol) { return value < symbol.address; });
  // A label inside a function (size 0, or a small one) must not hide the function around it, but neither may
  // a search run through a whole table of labels.
  constexpr int kNested = 64;
  const Symbol* unsized = nullptr;
  bool passed_end = false;  // of a function that ends before the address
  int tried = 0;
  while (after != symbols_.begin() && tried++ < kNested) {
    uint64_t start = std::prev(after)->address;
    auto first = std::lower_bound(symbols_.begin(), after, start, [](const Symbol& symbol, uint64_t value) {
      return symbol.address < value;
    });
    if (first->size != 0 && address - first->address < first->size) return &*first;
    // It ends whatever an unsized label before it began.
    passed_end |= first->size != 0;
    if (!passed_end && unsized == nullptr && address - first->address < label_reach) unsized = &*first;
    after = first;
  }
  if (unsized != nullptr) {
    auto next = std::upper_bound(starts_.begin(), starts_.end(), unsized->address);
    if (next != starts_.end() && *next <= address) return nullptr;
  }
  return unsized;
}

std::string_view SymbolTable::NameLike(const Symbol& symbol, std::string_view name) const {
  std::string_view clone;
  // Find gives the first symbol of its address.
  for (const Symbol* other = &symbol; other < symbols_.data() + symbols_.size(); ++other) {
    if (other->address != symbol.address) break;
    std::string_view candidate = other->name;
    if (candidate == name) return candidate;
    bool is_clone =
        candidate.size() > name.size() && candidate.starts_with(name) && candidate[name.size()] == '.';
    if (is_clone && clone.empty()) clone = candidate;
  }
  return clone;
}

}  // namespace profagent
