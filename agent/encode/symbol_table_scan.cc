#include "agent/encode/symbol_table_scan.h"

#include <algorithm>
#include <cstring>

namespace profagent {
namespace {

constexpr size_t kSymbolsAtOnce = 2730;  // 64 KiB
constexpr size_t kMaxName = 32 * 1024;   // mangled names of deep template code reach some KiB
constexpr size_t kNameStart = 240;       // read at once; enough for nearly all

struct Symbol {
  uint64_t start;
  uint64_t end;     // of a sized symbol; else of its section
  uint32_t name;    // offset in the string section
  uint8_t binding;  // 0: none; 1 local, 2 weak, 3 global
  bool is_function;
  bool is_sized;
};

class Scan {
 public:
  Scan(const ElfReader& file, const Elf64_Shdr& strings, SymbolKind kind, std::span<const uint64_t> addresses,
       Symbol* covering, Symbol* nearest)
      : file_(file),
        strings_(strings),
        kind_(kind),
        addresses_(addresses),
        covering_(covering),
        nearest_(nearest) {}

  void Offer(const Elf64_Sym& raw);
  // The choice for addresses[i]; ask in ascending order. nullptr: none.
  const Symbol* Choose(size_t i);

 private:
  bool IsBetter(const Symbol& a, const Symbol& b) const;
  bool HasBetterName(const Symbol& a, const Symbol& b) const;

  const ElfReader& file_;
  const Elf64_Shdr& strings_;
  SymbolKind kind_;
  std::span<const uint64_t> addresses_;
  Symbol* covering_;  // [i]: the best sized symbol over addresses[i]
  Symbol* nearest_;   // [i]: the last symbol that starts in (addresses[i - 1], addresses[i]]
  Symbol last_{};     // the running maximum of nearest_, in Choose
  // A file may claim that every symbol covers everything. Then its claims are heard only for so long.
  uint64_t patience_ = 4'000'000;
  mutable uint64_t name_reads_ = 10'000;
};

void Scan::Offer(const Elf64_Sym& raw) {
  uint8_t type = ELF64_ST_TYPE(raw.st_info);
  bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC;
  if (raw.st_shndx == SHN_UNDEF || raw.st_name == 0) return;
  if (kind_ == SymbolKind::kVariables ? type != STT_OBJECT : !is_function && type != STT_NOTYPE) return;
  if (raw.st_value > addresses_.back()) return;

  Symbol symbol{raw.st_value, 0, raw.st_name, 0, is_function, raw.st_size != 0};
  uint8_t binding = ELF64_ST_BIND(raw.st_info);
  symbol.binding = binding == STB_LOCAL ? 1 : binding == STB_WEAK ? 2 : 3;
  std::span<const Elf64_Shdr> sections = file_.sections();
  if (raw.st_shndx < sections.size()) {
    const Elf64_Shdr& section = sections[raw.st_shndx];
    if (((section.sh_flags & SHF_EXECINSTR) != 0) != (kind_ == SymbolKind::kFunctions)) return;
    symbol.end = section.sh_addr + section.sh_size;
  } else if (raw.st_shndx != SHN_XINDEX || !is_function) {
    return;  // absolute, common: no code
  }
  if (symbol.is_sized) symbol.end = symbol.start + raw.st_size;
  if (symbol.end < symbol.start) return;

  auto first = static_cast<size_t>(std::lower_bound(addresses_.begin(), addresses_.end(), symbol.start) -
                                   addresses_.begin());
  if (IsBetter(symbol, nearest_[first])) nearest_[first] = symbol;
  if (!symbol.is_sized) return;
  for (size_t i = first; i < addresses_.size() && addresses_[i] < symbol.end && patience_ > 0;
       ++i, --patience_) {
    if (IsBetter(symbol, covering_[i])) covering_[i] = symbol;
  }
}

bool Scan::IsBetter(const Symbol& a, const Symbol& b) const {
  if (b.binding == 0) return true;
  if (a.start != b.start) return a.start > b.start;
  if (a.is_sized != b.is_sized) return a.is_sized;
  if (a.binding != b.binding) return a.binding > b.binding;
  if (a.is_function != b.is_function) return a.is_function;
  return HasBetterName(a, b);
}

bool Scan::HasBetterName(const Symbol& a, const Symbol& b) const {
  if (name_reads_ == 0) return false;
  --name_reads_;
  char names[2][kNameStart];
  size_t sizes[2], underscores[2];
  for (int i = 0; i < 2; ++i) {
    uint64_t offset = i == 0 ? a.name : b.name;
    size_t size =
        offset < strings_.sh_size ? file_.ReadAt(strings_.sh_offset + offset, names[i], kNameStart) : 0;
    sizes[i] = strnlen(names[i], size);
    underscores[i] = 0;
    while (underscores[i] < sizes[i] && names[i][underscores[i]] == '_') ++underscores[i];
  }
  if (underscores[0] != underscores[1]) return underscores[0] < underscores[1];
  if (sizes[0] != sizes[1]) return sizes[0] > sizes[1];
  return std::memcmp(names[0], names[1], sizes[0]) < 0;
}

const Symbol* Scan::Choose(size_t i) {
  if (nearest_[i].binding != 0 && IsBetter(nearest_[i], last_)) last_ = nearest_[i];
  if (covering_[i].binding != 0) return &covering_[i];
  // A label reaches to the next symbol. (If that one has a size, its end is passed: it does not cover.)
  return last_.binding != 0 && !last_.is_sized && addresses_[i] < last_.end ? &last_ : nullptr;
}

}  // namespace

std::string_view ReadSymbolName(const ElfReader& file, const Elf64_Shdr& strings, uint64_t offset,
                                std::string_view suffix, Arena& arena) {
  if (offset >= strings.sh_size) return {};
  uint64_t most = strings.sh_size - offset;
  char start[kNameStart];
  size_t got = file.ReadAt(strings.sh_offset + offset, start, most < kNameStart ? most : kNameStart);
  size_t size = strnlen(start, got);
  const char* text = start;
  if (size == kNameStart) {
    if (most > kMaxName) most = kMaxName;
    char* longer = arena.AllocateArray<char>(most);
    if (longer == nullptr) return {};
    got = file.ReadAt(strings.sh_offset + offset, longer, most);
    size = strnlen(longer, got);
    text = longer;
  }
  if (size == got) return {};  // no end
  std::string_view name(text, size);
  size_t version = name.find('@');
  if (version != name.npos && version > 0) name = name.substr(0, version);
  char* copy = arena.AllocateArray<char>(name.size() + suffix.size());
  if (copy == nullptr) return {};
  std::memcpy(copy, name.data(), name.size());
  if (!suffix.empty()) std::memcpy(copy + name.size(), suffix.data(), suffix.size());
  return {copy, name.size() + suffix.size()};
}

void NameFromSymbolTable(const ElfReader& file, const Elf64_Shdr& table, SymbolKind kind,
                         std::span<const uint64_t> addresses, std::span<FunctionSymbol> names, Arena& arena) {
  if (addresses.empty() || table.sh_entsize != sizeof(Elf64_Sym) || table.sh_link >= file.sections().size())
    return;
  const Elf64_Shdr& strings = file.sections()[table.sh_link];
  auto* covering = arena.AllocateArray<Symbol>(addresses.size());
  auto* nearest = arena.AllocateArray<Symbol>(addresses.size());
  auto* part = arena.AllocateArray<Elf64_Sym>(kSymbolsAtOnce);
  if (covering == nullptr || nearest == nullptr || part == nullptr) return;

  Scan scan(file, strings, kind, addresses, covering, nearest);
  for (uint64_t at = 0; at < table.sh_size;) {
    size_t want = std::min<uint64_t>(table.sh_size - at, kSymbolsAtOnce * sizeof(Elf64_Sym));
    size_t got = file.ReadAt(table.sh_offset + at, part, want);
    for (size_t i = 0; i < got / sizeof(Elf64_Sym); ++i) scan.Offer(part[i]);
    if (got < want) break;
    at += got;
  }

  uint64_t last_offset = 0;
  std::string_view last_name;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const Symbol* symbol = scan.Choose(i);
    if (symbol == nullptr || !names[i].name.empty()) continue;
    if (symbol->name != last_offset) {  // neighbours are mostly in the same function
      last_offset = symbol->name;
      last_name = ReadSymbolName(file, strings, symbol->name, {}, arena);
    }
    names[i] = {last_name, symbol->start};
  }
}

}  // namespace profagent
