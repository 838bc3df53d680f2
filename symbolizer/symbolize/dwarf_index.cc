#include "symbolizer/symbolize/dwarf_index.h"

#include <dwarf.h>

#include <algorithm>

#include "symbolizer/symbolize/demangle.h"

namespace profagent {
namespace {

// DIEs nest as source does. Only a damaged or hostile file goes deeper.
constexpr int kDeepestNesting = 1000;
// abstract_origin and specification: two or three steps in practice.
constexpr int kLongestOriginChain = 16;
// Bytes. Every level of nesting keeps its scope, and one long string can be the name of all of them.
constexpr size_t kLongestScope = 64 << 10;

const std::string kNoFile;

uint64_t NumberOf(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute memory;
  Dwarf_Word value = 0;
  Dwarf_Attribute* found = dwarf_attr(die, attribute, &memory);
  return found != nullptr && dwarf_formudata(found, &value) == 0 ? value : 0;
}

std::string_view TextOf(Dwarf_Die* die, unsigned attribute) {
  Dwarf_Attribute memory;
  const char* text = nullptr;
  if (Dwarf_Attribute* found = dwarf_attr(die, attribute, &memory)) text = dwarf_formstring(found);
  return text != nullptr ? std::string_view(text) : std::string_view();
}

bool Follow(Dwarf_Die* die, unsigned attribute, Dwarf_Die* target) {
  Dwarf_Attribute memory;
  Dwarf_Attribute* found = dwarf_attr(die, attribute, &memory);
  return found != nullptr && dwarf_formref_die(found, target) != nullptr;
}

// Calls visit(low, high) for each range of code that the DIE claims.
template <class Visit>
void ForEachRange(Dwarf_Die* die, const Visit& visit) {
  Dwarf_Addr base = 0, low = 0, high = 0;
  ptrdiff_t at = 0;
  while ((at = dwarf_ranges(die, at, &base, &low, &high)) > 0) {
    if (low < high) visit(low, high);
  }
}

// Units that dwz or LTO split off do not name their language: they may have scopes, too.
bool HasScopes(int language) {
  switch (language) {
    case DW_LANG_C:
    case DW_LANG_C89:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
      return false;
    default:
      return true;
  }
}

// libdw does not say in which scope a DIE is. So the functions of one unit that want to know are sought together, from
// the unit down, and only where one of them is.
class ScopeSearch {
 public:
  struct Target {
    Dwarf_Off offset;
    DwarfFunction* function;
  };

  explicit ScopeSearch(std::vector<Target> targets) : targets_(std::move(targets)) {
    std::sort(targets_.begin(), targets_.end(),
              [](const Target& a, const Target& b) { return a.offset < b.offset; });
  }

  void Run(Dwarf_Die* unit) { Search(unit, "", 0); }

 private:
  void Search(Dwarf_Die* parent, const std::string& scope, int depth) {
    Dwarf_Die child;
    if (depth > kDeepestNesting || scope.size() > kLongestScope || dwarf_child(parent, &child) != 0) return;
    for (bool more = true; more && next_ < targets_.size();) {
      Dwarf_Die sibling;
      more = dwarf_siblingof(&child, &sibling) == 0;
      Dwarf_Off start = dwarf_dieoffset(&child);
      Dwarf_Off end = more ? dwarf_dieoffset(&sibling) : ~Dwarf_Off{0};
      // The last child's end is not known: what is behind it is not found inside, and left to the parents' siblings.
      while (next_ < targets_.size() && targets_[next_].offset < start) ++next_;
      for (; next_ < targets_.size() && targets_[next_].offset == start; ++next_) {
        DwarfFunction* function = targets_[next_].function;
        function->qualified_name = Qualified(scope, function->name);
      }
      if (next_ < targets_.size() && targets_[next_].offset < end && dwarf_haschildren(&child) == 1) {
        Search(&child, Inside(scope, &child), depth + 1);
      }
      if (more) child = sibling;
    }
  }

  // The scope inside `die`, which is inside `scope`.
  static std::string Inside(const std::string& scope, Dwarf_Die* die) {
    Dwarf_Attribute memory;
    switch (dwarf_tag(die)) {
      case DW_TAG_namespace: {
        std::string_view name = TextOf(die, DW_AT_name);
        return scope + (name.empty() ? "(anonymous namespace)" : std::string(name)) + "::";
      }
      case DW_TAG_class_type:
      case DW_TAG_structure_type:
      case DW_TAG_union_type: {
        std::string_view name = TextOf(die, DW_AT_name);
        return scope + (name.empty() ? kUnnamed : std::string(name) + "::");
      }
      case DW_TAG_subprogram: {
        // A definition stands outside of the scope that it was declared in; its linkage name knows.
        const char* linkage = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &memory));
        if (linkage != nullptr) return Demangle(linkage) + "::";
        const char* name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_name, &memory));
        return name != nullptr ? scope + name + "()::" : scope;
      }
      default:
        return scope;
    }
  }

  static std::string Qualified(const std::string& scope, std::string_view name) {
    // A lambda's type has no name, and GCC does not number them here. A generic one's operator has its arguments behind it.
    if ((name == "operator()" || name.starts_with("operator()<")) && scope.ends_with(kUnnamed)) {
      return scope.substr(0, scope.size() - kUnnamed.size()).append("{lambda}::").append(name);
    }
    return scope + std::string(name);
  }

  static inline const std::string kUnnamed = "{unnamed}::";

  std::vector<Target> targets_;
  size_t next_ = 0;
};

}  // namespace

// Finds the chain of functions around each of one unit's addresses.
class DwarfIndex::UnitWalk {
 public:
  // Outermost (the physical function) first.
  using Chain = std::vector<Dwarf_Die>;

  UnitWalk(std::span<const uint64_t> addresses, uint64_t lowest_code_address)
      : addresses_(addresses),
        lowest_code_address_(lowest_code_address),
        chains_(addresses.size()),
        missing_(addresses.size()) {}

  void Run(Dwarf_Die* unit) {
    Scan(unit, false, 0);
    // Nested functions (Fortran, Ada, GNU C) and methods inside types or blocks are described where they are
    // declared. Few units have one, so only those that still owe an answer are read in full.
    scanned_ = 0;
    if (missing_ > 0) Scan(unit, true, 0);
  }

  Chain& chain(size_t i) { return chains_[i]; }

 private:
  using Indices = std::vector<uint32_t>;  // sorted, of addresses_

  // Whether `die` is behind all that was met before it, as DIEs are that nest. Where a damaged DW_AT_sibling leads out of its
  // parent, the same DIEs would be met again at each level: twice as many with every one.
  static bool IsNew(Dwarf_Die* die, Dwarf_Off* last) {
    const Dwarf_Off offset = dwarf_dieoffset(die);
    if (offset <= *last) return false;
    *last = offset;
    return true;
  }

  void Scan(Dwarf_Die* parent, bool everywhere, int depth) {
    Dwarf_Die child;
    if (depth > kDeepestNesting || dwarf_child(parent, &child) != 0) return;
    do {
      if (!IsNew(&child, &scanned_)) return;
      int tag = dwarf_tag(&child);
      if (tag == DW_TAG_subprogram) VisitFunction(&child);
      if (missing_ == 0) return;
      if (everywhere || tag == DW_TAG_namespace || tag == DW_TAG_module) Scan(&child, everywhere, depth + 1);
    } while (missing_ > 0 && dwarf_siblingof(&child, &child) == 0);
  }

  void VisitFunction(Dwarf_Die* die) {
    Indices inside;
    ForEachRange(die, [&](uint64_t low, uint64_t high) {
      // The linker threw it away and put it at 0: however long it was, it is not what lies there.
      if (low < lowest_code_address_) return;
      auto from = std::lower_bound(addresses_.begin(), addresses_.end(), low);
      for (auto it = from; it != addresses_.end() && *it < high; ++it) {
        uint32_t index = static_cast<uint32_t>(it - addresses_.begin());
        // Identical code that the linker folded has several owners: the first one is as right as the others.
        if (!chains_[index].empty()) continue;
        chains_[index].push_back(*die);
        --missing_;
        inside.push_back(index);
      }
    });
    if (inside.empty()) return;
    std::sort(inside.begin(), inside.end());
    visited_ = 0;
    VisitInlined(die, inside, 0);
  }

  void VisitInlined(Dwarf_Die* scope, const Indices& inside, int depth) {
    Dwarf_Die child;
    if (depth > kDeepestNesting || dwarf_child(scope, &child) != 0) return;
    do {
      if (!IsNew(&child, &visited_)) return;
      switch (dwarf_tag(&child)) {
        case DW_TAG_inlined_subroutine: {
          Indices covered = Covered(&child, inside);
          if (covered.empty()) break;
          for (uint32_t index : covered) chains_[index].push_back(child);
          VisitInlined(&child, covered, depth + 1);
          break;
        }
        case DW_TAG_lexical_block:
        case DW_TAG_try_block:
        case DW_TAG_catch_block: {
          Indices covered = Covered(&child, inside);
          if (!covered.empty()) VisitInlined(&child, covered, depth + 1);
          break;
        }
        default:
          break;
      }
    } while (dwarf_siblingof(&child, &child) == 0);
  }

  Indices Covered(Dwarf_Die* die, const Indices& inside) const {
    Indices covered;
    ForEachRange(die, [&](uint64_t low, uint64_t high) {
      auto it = std::lower_bound(inside.begin(), inside.end(), low,
                                 [&](uint32_t index, uint64_t value) { return addresses_[index] < value; });
      for (; it != inside.end() && addresses_[*it] < high; ++it) covered.push_back(*it);
    });
    if (!std::is_sorted(covered.begin(), covered.end())) std::sort(covered.begin(), covered.end());
    covered.erase(std::unique(covered.begin(), covered.end()), covered.end());  // ranges that overlap
    return covered;
  }

  std::span<const uint64_t> addresses_;
  const uint64_t lowest_code_address_;
  std::vector<Chain> chains_;
  size_t missing_;
  Dwarf_Off scanned_ = 0;  // the last DIE that Scan met
  Dwarf_Off visited_ = 0;  // and VisitInlined, in its function
};

Result<std::unique_ptr<DwarfIndex>> DwarfIndex::Open(ElfFile* file, ElfFile* alternate, const ElfFile& code) {
  std::unique_ptr<DwarfIndex> index(new DwarfIndex);
  index->file_ = file;
  if (!file->is_little_endian()) return Error::Of(file->path(), ": big-endian debug information is not read");
  index->lowest_code_address_ = code.lowest_code_address();
  index->dwarf_ = dwarf_begin_elf(file->elf(), DWARF_C_READ, nullptr);
  if (index->dwarf_ == nullptr) return Error::Of(file->path(), ": ", dwarf_errmsg(-1));
  if (alternate != nullptr) {
    index->alternate_ = dwarf_begin_elf(alternate->elf(), DWARF_C_READ, nullptr);
    if (index->alternate_ != nullptr) {
      dwarf_setalt(index->dwarf_, index->alternate_);
    } else {
      // One that has but strings is none to libdw.
      index->gaps_.bad_alternate = alternate->path() + ": " + dwarf_errmsg(-1) + ": some names are missing";
    }
  }
  index->line_sections_ = {file->Section(".debug_line"), file->Section(".debug_line_str"),
                           file->Section(".debug_str")};
  return index;
}

DwarfIndex::~DwarfIndex() {
  if (dwarf_ != nullptr) dwarf_end(dwarf_);
  if (alternate_ != nullptr) dwarf_end(alternate_);
}

void DwarfIndex::Find(std::span<const uint64_t> addresses, std::span<DwarfFrames> frames) {
  std::vector<Unit> units;
  AssignToUnits(addresses, &units);
  for (Unit& unit : units) FindInUnit(&unit, addresses, frames);
  QualifyNames();
}

// Units that say no range own no code (types, imported parts).
void DwarfIndex::AssignToUnits(std::span<const uint64_t> addresses, std::vector<Unit>* units) {
  Dwarf_CU* cu = nullptr;
  Dwarf_Die die;
  uint8_t type = 0;
  // No sub-DIE is asked for here: that would open the .dwo file of every unit, also of those that no address
  // is in.
  while (dwarf_get_units(dwarf_, cu, &cu, nullptr, &type, &die, nullptr) == 0) {
    if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
    std::vector<uint32_t> inside;
    ForEachRange(&die, [&](uint64_t low, uint64_t high) {
      if (low < lowest_code_address_) return;
      auto it = std::lower_bound(addresses.begin(), addresses.end(), low);
      for (; it != addresses.end() && *it < high; ++it) {
        inside.push_back(static_cast<uint32_t>(it - addresses.begin()));
      }
    });
    if (inside.empty()) continue;
    std::sort(inside.begin(), inside.end());
    inside.erase(std::unique(inside.begin(), inside.end()), inside.end());
    Dwarf_Die split = die;
    if (type == DW_UT_skeleton) {
      ++gaps_.split_units;
      Dwarf_Die found;
      if (dwarf_cu_info(die.cu, nullptr, nullptr, nullptr, &found, nullptr, nullptr, nullptr) == 0 &&
          found.addr != nullptr) {
        split = found;
      } else {
        ++gaps_.missing_split_units;
        if (gaps_.missing_split_file.empty()) {
          std::string_view name = TextOf(&die, DW_AT_dwo_name);
          if (name.empty()) name = TextOf(&die, DW_AT_GNU_dwo_name);
          gaps_.missing_split_file = name;
        }
      }
    }
    units->push_back({die, split, std::move(inside)});
  }
}

void DwarfIndex::FindInUnit(Unit* unit, std::span<const uint64_t> all, std::span<DwarfFrames> frames) {
  // Two units may claim one address (folded code, damaged ranges): the first that names a function is
  // believed.
  std::erase_if(unit->addresses, [&](uint32_t index) {
    return !frames[index].empty() && frames[index].front().function != nullptr;
  });
  std::vector<uint64_t> addresses;
  addresses.reserve(unit->addresses.size());
  for (uint32_t index : unit->addresses) addresses.push_back(all[index]);
  if (addresses.empty()) return;

  UnitWalk walk(addresses, lowest_code_address_);
  walk.Run(&unit->split);

  LineTable* lines = LineTableOf(&unit->die);
  std::vector<LineRow> rows(addresses.size());
  if (lines != nullptr) lines->FindRows(addresses, lowest_code_address_, rows);

  for (size_t i = 0; i < addresses.size(); ++i) {
    UnitWalk::Chain& chain = walk.chain(i);
    if (chain.empty() && !rows[i].found) continue;
    DwarfFrame frame{nullptr, &kNoFile, rows[i].line, rows[i].column};
    if (lines != nullptr && rows[i].found) frame.file = &lines->FilePath(rows[i].file);
    DwarfFrames& result = frames[unit->addresses[i]];
    result.clear();
    if (chain.empty()) result.push_back(frame);
    for (auto die = chain.rbegin(); die != chain.rend(); ++die) {
      frame.function = FunctionOf(&*die);
      result.push_back(frame);
      frame.file = &kNoFile;
      if (lines != nullptr) frame.file = &lines->FilePath(NumberOf(&*die, DW_AT_call_file));
      frame.line = static_cast<uint32_t>(NumberOf(&*die, DW_AT_call_line));
      frame.column = static_cast<uint32_t>(NumberOf(&*die, DW_AT_call_column));
    }
  }
}

LineTable* DwarfIndex::LineTableOf(Dwarf_Die* unit_die) {
  Dwarf_Attribute memory;
  Dwarf_Word offset = 0;
  Dwarf_Attribute* list = dwarf_attr(unit_die, DW_AT_stmt_list, &memory);
  if (list == nullptr || dwarf_formudata(list, &offset) != 0) return nullptr;
  auto [entry, is_new] = line_tables_.try_emplace(offset);
  if (is_new) {
    Result<LineTable> table = LineTable::Parse(line_sections_, offset, TextOf(unit_die, DW_AT_comp_dir));
    if (table) {
      entry->second = std::make_unique<LineTable>(std::move(*table));
    } else {
      ++gaps_.bad_line_tables;
      if (gaps_.bad_line_table.empty()) gaps_.bad_line_table = table.error().text.view();
    }
  }
  return entry->second.get();
}

const DwarfFunction* DwarfIndex::FunctionOf(Dwarf_Die* die) {
  // All inlined copies share one abstract function.
  Dwarf_Die at = *die;
  Follow(die, DW_AT_abstract_origin, &at);
  auto [entry, is_new] = functions_.try_emplace(at.addr);
  if (!is_new) return entry->second.get();
  entry->second = std::make_unique<DwarfFunction>();
  DwarfFunction* function = entry->second.get();
  for (int step = 0; step < kLongestOriginChain; ++step) {
    if (function->linkage_name.empty()) function->linkage_name = TextOf(&at, DW_AT_linkage_name);
    if (function->linkage_name.empty()) function->linkage_name = TextOf(&at, DW_AT_MIPS_linkage_name);
    if (function->name.empty()) function->name = TextOf(&at, DW_AT_name);
    uint64_t file = NumberOf(&at, DW_AT_decl_file);
    uint64_t line = NumberOf(&at, DW_AT_decl_line);
    // A definition that follows its declaration comes first in the chain, and that is the one to show. In the
    // files of others (.dwo, .gnu_debugaltlink) the number means a file of theirs.
    if (function->line == 0 && line != 0 && dwarf_cu_getdwarf(at.cu) == dwarf_) {
      Dwarf_Die unit;
      LineTable* lines = dwarf_diecu(&at, &unit, nullptr, nullptr) != nullptr ? LineTableOf(&unit) : nullptr;
      if (lines != nullptr && file != 0) {
        function->file = &lines->FilePath(file);
        function->line = static_cast<uint32_t>(line);
      }
    }
    Dwarf_Die next;
    if (!Follow(&at, DW_AT_abstract_origin, &next) && !Follow(&at, DW_AT_specification, &next)) break;
    at = next;
  }
  if (function->linkage_name.empty() && !function->name.empty()) unqualified_.push_back({at, function});
  return function;
}

void DwarfIndex::QualifyNames() {
  std::unordered_map<const void*, std::pair<Dwarf_Die, std::vector<ScopeSearch::Target>>> by_unit;
  for (Unqualified& item : unqualified_) {
    Dwarf_Die unit;
    if (dwarf_diecu(&item.die, &unit, nullptr, nullptr) == nullptr) continue;
    if (!HasScopes(dwarf_srclang(&unit))) continue;
    auto& [die, targets] = by_unit[unit.addr];
    die = unit;
    targets.push_back({dwarf_dieoffset(&item.die), item.function});
  }
  unqualified_.clear();
  for (auto& [address, entry] : by_unit) ScopeSearch(std::move(entry.second)).Run(&entry.first);
}

}  // namespace profagent
