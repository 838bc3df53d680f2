#include "agent/encode/symbol_table_scan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "agent/encode/sort_ascending.h"

namespace profagent {
namespace {

constexpr size_t kMaxName = 32 * 1024;  // mangled names of deep template code reach some KiB
constexpr size_t kNameStart = 240;      // read at once; enough for nearly all
constexpr size_t kNameUsual = 4096;     // read then
// How far an exported label reaches at most: what follows it is mostly not exported, and so not there to end it.
constexpr uint64_t kExportedLabelReach = 4096;

struct Symbol {
  uint64_t start;
  uint64_t end;     // of a sized symbol; else of its section
  uint32_t name;    // offset in the string section
  uint8_t binding;  // 0: none; 1 local, 2 weak, 3 global
  bool is_function;
  bool is_sized;
};

// Which of symbols at one place, or around one address, is chosen.
class Choice {
 public:
  Choice(const ElfReader& file, const Elf64_Shdr& strings) : file_(file), strings_(strings) {}

  bool IsBetter(const Symbol& a, const Symbol& b);

 private:
  bool HasBetterName(const Symbol& a, const Symbol& b);
  bool IsBetterName(uint32_t a, uint32_t b) const;

  const ElfReader& file_;
  const Elf64_Shdr& strings_;
  uint64_t name_reads_ = 10'000;  // a file may claim that all its symbols are at one place
  uint32_t compared_[2] = {};     // the last names, which the next address mostly asks for again
  bool was_better_ = false;
};

// Where in ascending addresses the first one is that a symbol can cover. A table of what lies in each of some equal
// stretches: a binary search over all of them guesses wrong at nearly every step.
class AddressIndex {
 public:
  // False: no memory.
  bool Build(std::span<const uint64_t> addresses, Arena& arena) {
    addresses_ = addresses;
    size_t most = std::min(std::bit_ceil(8 * addresses.size()), kMaxBuckets);
    uint64_t range = addresses.back() - addresses.front();
    while (range >> shift_ >= most) ++shift_;
    last_bucket_ = (range >> shift_) + 2;
    starts_ = arena.AllocateArray<uint32_t>(last_bucket_ + 2);
    if (starts_ == nullptr) return false;
    size_t i = 0;
    for (size_t bucket = 0; bucket < last_bucket_ + 2; ++bucket) {
      while (i < addresses.size() && BucketOf(addresses[i]) < bucket) ++i;
      starts_[bucket] = static_cast<uint32_t>(i);
    }
    return true;
  }

  // Whether there may be an address in these bytes; `size` > 0. No branch: functions and variables stand in a table as they come, and
  // to guess wrong which one is next takes longer than all the rest.
  PROF_ALWAYS_INLINE bool MayHold(uint64_t start, uint64_t size) const {
    return starts_[BucketOf(start)] != starts_[BucketOf(start + size - 1) + 1];
  }

  // Of the first address that is not below `start`, which is not above the last one.
  size_t FirstFrom(uint64_t start) const {
    if (start <= addresses_.front()) return 0;
    uint64_t bucket = BucketOf(start);
    const uint64_t* data = addresses_.data();
    return static_cast<size_t>(std::lower_bound(data + starts_[bucket], data + starts_[bucket + 1], start) -
                               data);
  }

 private:
  static constexpr size_t kMaxBuckets = 8192;

  // The first bucket is what lies before all addresses, the last one what lies behind the stretch of the last one.
  PROF_ALWAYS_INLINE uint64_t BucketOf(uint64_t address) const {
    uint64_t bucket = std::min(((address - addresses_.front()) >> shift_) + 1, last_bucket_);
    return address < addresses_.front() ? 0 : bucket;
  }

  std::span<const uint64_t> addresses_;
  uint32_t shift_ = 0;
  uint64_t last_bucket_ = 0;
  uint32_t* starts_ = nullptr;  // [b]: the first address of bucket b or of one behind it
};

class Scan {
 public:
  Scan(const ElfReader& file, const Elf64_Shdr& table, const Elf64_Shdr& strings, SymbolKind kind)
      : choice_(file, strings),
        sections_(file.sections()),
        kind_(kind),
        label_reach_(table.sh_type == SHT_DYNSYM ? kExportedLabelReach : UINT64_MAX) {}

  // False: no memory.
  bool Start(std::span<const uint64_t> addresses, Arena& arena) {
    addresses_ = addresses;
    covering_ = arena.AllocateArray<Symbol>(addresses.size());
    nearest_ = arena.AllocateArray<Symbol>(addresses.size());
    return covering_ != nullptr && nearest_ != nullptr && index_.Build(addresses, arena);
  }

  PROF_ALWAYS_INLINE void Offer(const Elf64_Sym& raw);
  // The choice for addresses[i]; ask in ascending order. nullptr: none.
  const Symbol* For(size_t i);

 private:
  bool Read(const Elf64_Sym& raw, Symbol* symbol) const;
  void OfferNear(const Elf64_Sym& raw);

  Choice choice_;
  std::span<const Elf64_Shdr> sections_;
  SymbolKind kind_;
  uint64_t label_reach_;
  std::span<const uint64_t> addresses_;
  AddressIndex index_;
  Symbol* covering_ = nullptr;  // [i]: the best sized symbol over addresses[i]; without a binding: none
  Symbol* nearest_ = nullptr;   // [i]: the last symbol that starts in (addresses[i - 1], addresses[i]]
  Symbol last_{};               // the running maximum of nearest_, in For
  // A file may claim that every symbol covers everything. Then its claims are heard only for so long.
  uint64_t patience_ = 4'000'000;
};

// Nearly all of a large table: it covers nothing that was asked for, and is no label, or the end of one, that reaches so far.
void Scan::Offer(const Elf64_Sym& raw) {
  if (label_reach_ == UINT64_MAX || index_.MayHold(raw.st_value, std::max(raw.st_size, label_reach_)))
    OfferNear(raw);
}

void Scan::OfferNear(const Elf64_Sym& raw) {
  const uint64_t start = raw.st_value;
  if (start > addresses_.back()) return;
  size_t first = index_.FirstFrom(start);
  // It covers nothing that was asked for, and is not the nearest to anything.
  if (raw.st_size != 0 && addresses_[first] - start >= raw.st_size && start < nearest_[first].start) return;
  Symbol symbol;
  if (!Read(raw, &symbol)) return;
  Symbol& nearest = nearest_[first];
  // Of sized ones at one place any will do: they only end a label.
  bool is_another = nearest.start == start && nearest.is_sized && symbol.is_sized;
  if (!is_another && choice_.IsBetter(symbol, nearest)) nearest = symbol;
  if (!symbol.is_sized) return;
  for (size_t i = first; i < addresses_.size() && addresses_[i] < symbol.end && patience_ > 0;
       ++i, --patience_) {
    if (choice_.IsBetter(symbol, covering_[i])) covering_[i] = symbol;
  }
}

const Symbol* Scan::For(size_t i) {
  if (nearest_[i].binding != 0 && choice_.IsBetter(nearest_[i], last_)) last_ = nearest_[i];
  if (covering_[i].binding != 0) return &covering_[i];
  // A label reaches to the next symbol. (If that one has a size, its end is passed: it does not cover.)
  return last_.binding != 0 && !last_.is_sized && addresses_[i] < last_.end ? &last_ : nullptr;
}

bool Scan::Read(const Elf64_Sym& raw, Symbol* symbol) const {
  uint8_t type = ELF64_ST_TYPE(raw.st_info);
  bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC;
  if (raw.st_shndx == SHN_UNDEF || raw.st_name == 0) return false;
  if (kind_ == SymbolKind::kVariables ? type != STT_OBJECT : !is_function && type != STT_NOTYPE) return false;

  *symbol = {raw.st_value, 0, raw.st_name, 0, is_function, raw.st_size != 0};
  uint8_t binding = ELF64_ST_BIND(raw.st_info);
  symbol->binding = binding == STB_LOCAL ? 1 : binding == STB_WEAK ? 2 : 3;
  if (raw.st_shndx < sections_.size()) {
    const Elf64_Shdr& section = sections_[raw.st_shndx];
    if (((section.sh_flags & SHF_EXECINSTR) != 0) != (kind_ == SymbolKind::kFunctions)) return false;
    symbol->end = section.sh_addr + section.sh_size;
  } else if (raw.st_shndx != SHN_XINDEX || !is_function) {
    return false;  // absolute, common: no code
  }
  if (symbol->is_sized) {
    symbol->end = symbol->start + raw.st_size;
  } else if (symbol->end >= symbol->start && symbol->end - symbol->start > label_reach_) {
    symbol->end = symbol->start + label_reach_;
  }
  return symbol->end >= symbol->start;
}

bool Choice::IsBetter(const Symbol& a, const Symbol& b) {
  if (b.binding == 0) return true;
  if (a.start != b.start) return a.start > b.start;
  if (a.is_sized != b.is_sized) return a.is_sized;
  if (a.binding != b.binding) return a.binding > b.binding;
  if (a.is_function != b.is_function) return a.is_function;
  return HasBetterName(a, b);
}

bool Choice::HasBetterName(const Symbol& a, const Symbol& b) {
  if (a.name == compared_[0] && b.name == compared_[1]) return was_better_;
  if (name_reads_ == 0) return false;
  --name_reads_;
  compared_[0] = a.name;
  compared_[1] = b.name;
  was_better_ = IsBetterName(a.name, b.name);
  return was_better_;
}

bool Choice::IsBetterName(uint32_t a, uint32_t b) const {
  char names[2][kNameStart];
  size_t sizes[2], underscores[2];
  for (int i = 0; i < 2; ++i) {
    uint64_t offset = i == 0 ? a : b;
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

}  // namespace

std::string_view ReadSymbolName(const ElfReader& file, const Elf64_Shdr& strings, uint64_t offset,
                                std::string_view suffix, Arena& arena) {
  if (offset >= strings.sh_size) return {};
  uint64_t most = std::min<uint64_t>(strings.sh_size - offset, kMaxName);
  char start[kNameStart], more[kNameUsual];
  const char* text = start;
  size_t got = 0;
  auto read = [&](char* to, size_t size) {
    text = to;
    got = file.ReadAt(strings.sh_offset + offset, to, std::min<uint64_t>(most, size));
    return strnlen(to, got);
  };
  size_t size = read(start, sizeof start);
  if (size == sizeof start) size = read(more, sizeof more);
  if (size == sizeof more) {
    char* longest = arena.AllocateArray<char>(most);
    if (longest == nullptr) return {};
    size = read(longest, most);
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
  Scan scan(file, table, strings, kind);
  if (!scan.Start(addresses, arena)) return;
  file.ReadTable<Elf64_Sym>(table.sh_offset, table.sh_size, [&](std::span<const Elf64_Sym> part) {
    for (const Elf64_Sym& raw : part) scan.Offer(raw);
    return true;
  });

  auto* wanted = arena.AllocateArray<uint64_t>(addresses.size());  // a name's offset, then whose it is
  if (wanted == nullptr) return;
  size_t count = 0;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const Symbol* symbol = scan.For(i);
    if (symbol == nullptr || !names[i].name.empty()) continue;
    names[i] = {{}, symbol->start, !symbol->is_sized};
    wanted[count++] = uint64_t{symbol->name} << 32 | i;
  }
  // As they stand in the file: one reading brings several. Neighbours are mostly in the same function, and have the same name.
  if (!SortAscending(std::span(wanted, count), arena)) return;
  uint32_t last_offset = 0;
  std::string_view last_name;
  for (uint64_t one : std::span(wanted, count)) {
    auto offset = static_cast<uint32_t>(one >> 32);
    if (offset != last_offset) {
      last_offset = offset;
      last_name = ReadSymbolName(file, strings, offset, {}, arena);
    }
    names[static_cast<uint32_t>(one)].name = last_name;
  }
}

}  // namespace profagent
