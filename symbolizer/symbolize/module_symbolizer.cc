#include "symbolizer/symbolize/module_symbolizer.h"

#include <algorithm>

#include "symbolizer/symbolize/mini_debug_info.h"

namespace profagent {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t PageOf(uint64_t address) { return address & ~(kPage - 1); }

std::string_view NameOf(const DwarfFunction& function) {
  return !function.linkage_name.empty() ? function.linkage_name : function.name;
}

}  // namespace

ModuleSymbolizer::ModuleSymbolizer(Binary binary) : binary_(std::move(binary)) {
  if (binary_.file != nullptr) symbols_.Add(*binary_.file);
  if (binary_.debug != nullptr && (symbols_.empty() || symbols_.only_dynamic())) symbols_.Add(*binary_.debug);
  if (symbols_.only_dynamic()) AddMiniDebugInfo();
  ElfFile* file = binary_.dwarf();
  if (file == nullptr) return;
  const ElfFile& code = binary_.file != nullptr ? *binary_.file : *file;
  Result<std::unique_ptr<DwarfIndex>> dwarf = DwarfIndex::Open(file, binary_.alternate.get(), code);
  if (dwarf) {
    dwarf_ = std::move(*dwarf);
  } else {
    Note(dwarf.error().text.view());
  }
}

void ModuleSymbolizer::AddMiniDebugInfo() {
  if (binary_.file == nullptr) return;
  Result<std::unique_ptr<ElfFile>> mini = OpenMiniDebugInfo(*binary_.file);
  if (!mini) return Note(mini.error().text.view());
  mini_debug_info_ = std::move(*mini);
  if (mini_debug_info_ == nullptr) return;
  symbols_.Add(*mini_debug_info_);
  symbols_.AddStarts(*binary_.file);  // whoever made it may have left out functions, such as weak ones
}

void ModuleSymbolizer::Note(std::string_view problem) {
  if (!binary_.problem.empty()) binary_.problem += "; ";
  binary_.problem += problem;
}

uint64_t ModuleSymbolizer::FileAddress(const MappingPlace& mapping, std::span<const MappingPlace> all,
                                       uint64_t address) const {
  const uint64_t in_file = address - mapping.start + mapping.offset;
  if (binary_.file != nullptr) {
    // The kernel maps whole pages: the bytes around a segment in its first and last page are mapped, too,
    // but belong to its neighbour there.
    for (bool executable : {true, false}) {
      for (const LoadSegment& segment : binary_.file->segments()) {
        if (segment.executable == executable && in_file - segment.offset < segment.file_size) {
          return in_file - segment.offset + segment.address;
        }
      }
    }
    for (const LoadSegment& segment : binary_.file->segments()) {
      uint64_t first_page = PageOf(segment.offset);
      if (segment.executable &&
          in_file - first_page < PageOf(segment.offset + segment.file_size + kPage - 1) - first_page) {
        return in_file - segment.offset + segment.address;
      }
    }
    return in_file;
  }
  if (binary_.debug != nullptr) return address - mapping.start + StartInDebugFile(mapping, all);
  return in_file;
}

// A separate debug file keeps the segments' addresses, but not their offsets. The mapping begins at the page of one
// segment's address: that of code which is as long as it, else the first one's when it begins at offset 0, else the code's.
// Where several are as long, the other mappings say which: they lie at the distances of the segments, too.
uint64_t ModuleSymbolizer::StartInDebugFile(const MappingPlace& mapping,
                                            std::span<const MappingPlace> all) const {
  std::span<const LoadSegment> segments = binary_.debug->segments();
  auto fits = [](const LoadSegment& segment, const MappingPlace& place) {
    uint64_t limit = PageOf(segment.address + segment.memory_size + kPage - 1);
    return segment.executable && limit - PageOf(segment.address) == place.limit - place.start;
  };
  auto fits_mapping = [&](const LoadSegment& segment) { return fits(segment, mapping); };
  if (std::count_if(segments.begin(), segments.end(), fits_mapping) == 1) all = {};
  const LoadSegment* best = nullptr;
  size_t most = 0;
  for (const LoadSegment& segment : segments) {
    if (!fits(segment, mapping)) continue;
    size_t fitting = 1;
    for (const MappingPlace& other : all) {
      fitting += std::any_of(segments.begin(), segments.end(), [&](const LoadSegment& its) {
        return fits(its, other) &&
               other.start - mapping.start == PageOf(its.address) - PageOf(segment.address);
      });
    }
    if (fitting > most) {
      best = &segment;
      most = fitting;
    }
  }
  if (best != nullptr) return PageOf(best->address);
  for (const LoadSegment& segment : segments) {
    if (mapping.offset == 0 || segment.executable) return PageOf(segment.address);
  }
  return mapping.offset;
}

void ModuleSymbolizer::Find(std::span<const uint64_t> addresses, std::span<std::vector<SourceFrame>> frames) {
  std::vector<DwarfFrames> found(addresses.size());
  if (dwarf_ != nullptr) dwarf_->Find(addresses, found);
  for (size_t i = 0; i < addresses.size(); ++i) {
    const Symbol* symbol = symbols_.Find(addresses[i]);
    std::vector<SourceFrame>& result = frames[i];
    result.clear();
    for (const DwarfFrame& frame : found[i]) {
      SourceFrame& source = result.emplace_back();
      source.file = *frame.file;
      source.line = frame.line;
      source.column = frame.column;
      if (frame.function == nullptr) continue;
      source.symbol = NameOf(*frame.function);
      source.name = frame.function->qualified_name;
      if (frame.function->file != nullptr && *frame.function->file == source.file) {
        source.start_line = frame.function->line;
      }
    }
    if (result.empty()) {
      if (symbol != nullptr) {
        bool is_guess = symbol->size == 0 && symbols_.only_dynamic();
        result.push_back({symbol->name, "", "", 0, 0, 0, is_guess});
      }
      continue;
    }
    std::string_view physical = PhysicalName(found[i].back().function, symbol);
    if (physical != result.back().symbol) result.back().name = {};
    result.back().symbol = physical;
    // A line without any name would be shown as nothing.
    if (result.back().symbol.empty() && result.size() == 1) result.clear();
  }
}

// DWARF knows the source's function, the symbol table the linker's. They differ where the compiler made several of
// one (`f.cold`, `f.part.0`, `f.constprop.1`, C1 and C2 of a constructor): which of them ran is worth knowing, so the
// symbol's name wins there. Where one address has several names (folded code, weak aliases), DWARF says which of them
// was compiled.
std::string_view ModuleSymbolizer::PhysicalName(const DwarfFunction* function, const Symbol* symbol) const {
  std::string_view symbol_name = symbol != nullptr ? symbol->name : std::string_view();
  if (function == nullptr) return symbol_name;
  std::string_view name = NameOf(*function);
  if (name.empty()) return symbol_name;
  // A symbol without a size only says where something begins: its function may have ended before the address.
  if (symbol == nullptr || symbol->size == 0) return name;
  std::string_view fitting = symbols_.NameLike(*symbol, name);
  return !fitting.empty() ? fitting : symbol_name;
}

}  // namespace profagent
