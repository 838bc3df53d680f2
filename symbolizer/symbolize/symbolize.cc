#include "symbolizer/symbolize/symbolize.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "symbolizer/symbolize/binaries.h"
#include "symbolizer/symbolize/demangle.h"
#include "symbolizer/symbolize/module_symbolizer.h"

namespace profagent {
namespace {

using perftools::profiles::Function;
using perftools::profiles::Label;
using perftools::profiles::Line;
using perftools::profiles::Location;
using perftools::profiles::Mapping;
using perftools::profiles::Profile;
using perftools::profiles::Sample;

const std::string kNoText;
constexpr std::string_view kLockLabel = "lock";  // of block and mutex profiles, see agent/ledger/lock_label.h

std::string BaseName(std::string_view path) {
  size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string HexNumber(uint64_t value) {
  FixedText<24> text;
  text.Add(Hex{value});
  return text.c_str();
}

// The profile's tables while they are rewritten: strings and functions are shared as before.
class ProfileTables {
 public:
  explicit ProfileTables(Profile* profile) : profile_(profile) {
    for (int i = 0; i < profile->string_table_size(); ++i) strings_.try_emplace(profile->string_table(i), i);
    for (const Function& function : profile->function()) old_functions_.try_emplace(function.id(), &function);
  }

  const std::string& Text(int64_t index) const {
    return index > 0 && index < profile_->string_table_size()
               ? profile_->string_table(static_cast<int>(index))
               : kNoText;
  }

  // Of a function that the profile came with.
  const std::string& NameOf(uint64_t old_id) const {
    auto found = old_functions_.find(old_id);
    return found != old_functions_.end() ? Text(found->second->name()) : kNoText;
  }

  int64_t Intern(const std::string& text) {
    auto [entry, is_new] = strings_.try_emplace(text, profile_->string_table_size());
    if (is_new) profile_->add_string_table(text);
    return entry->second;
  }

  // Ids are given anew, in the order in which locations name them: equal input, equal bytes.
  uint64_t FunctionId(const std::string& name, const std::string& system_name, const std::string& file,
                      int64_t start_line) {
    Key key{Intern(name), Intern(system_name), Intern(file), start_line};
    auto [entry, is_new] = functions_.try_emplace(key, functions_.size() + 1);
    if (is_new) order_.push_back(key);
    return entry->second;
  }
  uint64_t KeepFunction(uint64_t old_id) {
    auto found = old_functions_.find(old_id);
    if (found == old_functions_.end()) return 0;
    const Function& old = *found->second;
    Key key{old.name(), old.system_name(), old.filename(), old.start_line()};
    auto [entry, is_new] = functions_.try_emplace(key, functions_.size() + 1);
    if (is_new) order_.push_back(key);
    return entry->second;
  }

  // Replaces the profile's functions by those that were asked for.
  void Finish() {
    profile_->clear_function();
    for (size_t i = 0; i < order_.size(); ++i) {
      Function* function = profile_->add_function();
      function->set_id(i + 1);
      function->set_name(std::get<0>(order_[i]));
      function->set_system_name(std::get<1>(order_[i]));
      function->set_filename(std::get<2>(order_[i]));
      function->set_start_line(std::get<3>(order_[i]));
    }
  }

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  Profile* profile_;
  std::unordered_map<std::string, int64_t> strings_;
  std::unordered_map<uint64_t, const Function*> old_functions_;
  std::map<Key, uint64_t> functions_;
  std::vector<Key> order_;
};

// One file, however many mappings it has in the profile.
struct Module {
  std::string name;
  std::string build_id;
  std::vector<Mapping*> mappings;
  struct Item {
    uint64_t file_address;
    Location* location;
  };
  std::vector<Item> items;
};

bool HasLineNumbers(const Location& location) {
  return std::any_of(location.line().begin(), location.line().end(),
                     [](const Line& line) { return line.line() != 0; });
}

class Rewriter {
 public:
  Rewriter(Profile* profile, const SymbolizeOptions& options)
      : profile_(profile),
        options_(options),
        tables_(profile),
        finder_(options.debug_path, options.use_debuginfod) {}

  Status Run(SymbolizeReport* report) {
    if (Status grouped = GroupByModule(); !grouped) return grouped;
    // Every location's lines first: what keeps its functions must be known before the old ones go.
    for (Module& module : modules_) {
      ModuleReport module_report = SymbolizeModule(&module);
      if (report != nullptr && !module.items.empty()) report->modules.push_back(std::move(module_report));
    }
    Rewrite();
    return Done{};
  }

  Status RunPerfMap(const std::string& map, PerfMapRules rules, SymbolizeReport* report) {
    ModuleReport map_report;
    if (Status named = NameUnmapped(map, rules, &map_report); !named) return named;
    if (report != nullptr) report->modules.push_back(std::move(map_report));
    Rewrite();
    return Done{};
  }

 private:
  Status GroupByModule() {
    std::unordered_map<uint64_t, Mapping*> mappings;
    for (Mapping& mapping : *profile_->mutable_mapping()) {
      if (!mappings.try_emplace(mapping.id(), &mapping).second) {
        return Error::Of("not a valid profile: two mappings have the id ", mapping.id());
      }
    }
    std::map<std::pair<std::string, std::string>, size_t> by_file;
    std::unordered_map<uint64_t, size_t> module_of_mapping;
    for (Mapping& mapping : *profile_->mutable_mapping()) {
      std::string name = tables_.Text(mapping.filename());
      std::string build_id = tables_.Text(mapping.build_id());
      auto [entry, is_new] = by_file.try_emplace({name, build_id}, modules_.size());
      if (is_new) modules_.push_back({name, build_id, {}, {}});
      modules_[entry->second].mappings.push_back(&mapping);
      module_of_mapping[mapping.id()] = entry->second;
    }
    for (Location& location : *profile_->mutable_location()) {
      if (location.mapping_id() == 0) continue;  // made up by the profiler, or code that no file has
      auto found = module_of_mapping.find(location.mapping_id());
      if (found == module_of_mapping.end()) {
        return Error::Of("not a valid profile: location ", location.id(), " names mapping ",
                         location.mapping_id(), ", which is not there");
      }
      modules_[found->second].items.push_back({0, &location});
    }
    return Done{};
  }

  ModuleReport SymbolizeModule(Module* module) {
    ModuleReport report;
    report.name = module->name;
    report.locations = module->items.size();
    if (module->items.empty()) return report;
    ModuleSymbolizer symbolizer(finder_.Find(module->name, module->build_id));

    std::vector<MappingPlace> places;
    std::unordered_map<uint64_t, size_t> place_of;
    for (const Mapping* mapping : module->mappings) {
      place_of[mapping->id()] = places.size();
      places.push_back({mapping->memory_start(), mapping->memory_limit(), mapping->file_offset()});
    }
    std::vector<uint64_t> addresses;
    for (Module::Item& item : module->items) {
      const MappingPlace& place = places[place_of[item.location->mapping_id()]];
      item.file_address = symbolizer.FileAddress(place, places, item.location->address());
      addresses.push_back(item.file_address);
    }
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    std::vector<std::vector<SourceFrame>> frames(addresses.size());
    symbolizer.Find(addresses, frames);

    for (const Module::Item& item : module->items) {
      size_t index = static_cast<size_t>(
          std::lower_bound(addresses.begin(), addresses.end(), item.file_address) - addresses.begin());
      const std::vector<SourceFrame>& found = frames[index];
      bool has_lines =
          std::any_of(found.begin(), found.end(), [](const SourceFrame& f) { return f.line != 0; });
      if (!found.empty()) {
        ++report.named;
        if (has_lines) ++report.with_lines;
      }
      std::string text = BaseName(module->name) + "+" + HexNumber(item.file_address);
      // What a location is called already is better than a guess, unless that is just its address.
      bool is_guess = found.size() == 1 && found[0].is_guess && IsNamed(*item.location, text);
      if (!found.empty() && !is_guess && (has_lines || !HasLineNumbers(*item.location))) {
        SetLines(item.location, found);
      } else if (item.location->line_size() == 0) {
        Plan(item.location).push_back({tables_.FunctionId(text, text, "", 0), 0, 0});
      }
    }
    for (Mapping* mapping : module->mappings) {
      // Every location has a name now. Without this flag pprof would look for names itself, and replace ours
      // by what little its own reader finds.
      mapping->set_has_functions(true);
      if (report.with_lines > 0) {
        mapping->set_has_filenames(true);
        mapping->set_has_line_numbers(true);
        mapping->set_has_inline_frames(true);
      }
    }
    Explain(symbolizer, *module, &report);
    return report;
  }

  Status NameUnmapped(const std::string& map, PerfMapRules rules, ModuleReport* report) {
    std::map<uint64_t, std::vector<Location*>> unnamed;
    for (Location& location : *profile_->mutable_location()) {
      if (location.mapping_id() == 0 && location.address() != 0 &&
          !IsNamed(location, HexNumber(location.address()))) {
        unnamed[location.address()].push_back(&location);
      }
    }
    std::vector<uint64_t> addresses;
    addresses.reserve(unnamed.size());
    for (const auto& [address, locations] : unnamed) addresses.push_back(address);
    Result<std::vector<std::string>> names = ReadPerfMap(map, addresses, rules);
    if (!names) return names.error();
    report->name = map;
    size_t i = 0;
    for (const auto& [address, locations] : unnamed) {
      const std::string& name = (*names)[i++];
      report->locations += locations.size();
      if (name.empty()) continue;
      report->named += locations.size();
      report->found = SymbolsFound::kSymbols;
      for (Location* location : locations)
        Plan(location).push_back({tables_.FunctionId(name, name, "", 0), 0, 0});
    }
    return Done{};
  }

  // Whether it has a function's name that is not `but`.
  bool IsNamed(const Location& location, const std::string& but) const {
    return std::any_of(location.line().begin(), location.line().end(), [&](const Line& line) {
      const std::string& name = tables_.NameOf(line.function_id());
      return !name.empty() && name != but;
    });
  }

  struct PlannedLine {
    uint64_t function_id;
    int64_t line;
    int64_t column;
  };
  std::vector<PlannedLine>& Plan(Location* location) { return plans_[location]; }

  void SetLines(Location* location, const std::vector<SourceFrame>& frames) {
    std::vector<PlannedLine>& plan = Plan(location);
    for (const SourceFrame& frame : frames) {
      std::string name =
          frame.name.empty() || !options_.demangle ? DisplayName(frame.symbol) : std::string(frame.name);
      uint64_t id =
          tables_.FunctionId(name, std::string(frame.symbol), std::string(frame.file), frame.start_line);
      plan.push_back({id, frame.line, frame.column});
    }
  }

  const std::string& DisplayName(std::string_view symbol) {
    auto [entry, is_new] = display_names_.try_emplace(std::string(symbol));
    if (is_new) entry->second = options_.demangle ? Demangle(entry->first) : entry->first;
    return entry->second;
  }

  void Rewrite() {
    for (Location& location : *profile_->mutable_location()) {
      auto plan = plans_.find(&location);
      if (plan == plans_.end()) {
        for (Line& line : *location.mutable_line())
          line.set_function_id(tables_.KeepFunction(line.function_id()));
        continue;
      }
      location.clear_line();
      for (const PlannedLine& planned : plan->second) {
        Line* line = location.add_line();
        line->set_function_id(planned.function_id);
        line->set_line(planned.line);
        line->set_column(planned.column);
      }
    }
    tables_.Finish();
  }

  static void Explain(const ModuleSymbolizer& symbolizer, const Module& module, ModuleReport* report) {
    if (report->with_lines > 0) {
      report->found = SymbolsFound::kDebugInfo;
    } else if (report->named > 0) {
      report->found = SymbolsFound::kSymbols;
    }
    const Binary& binary = symbolizer.binary();
    if (binary.dwarf() != nullptr && binary.dwarf()->HasUnreadableDebugInfo()) {
      report->problem = binary.dwarf()->path() + ": " + kUnreadableDebugInfo;
      report->advice = kUnreadableDebugInfoRemedy;
      return;
    }
    report->problem = binary.problem;
    auto add = [&](const std::string& text) {
      if (!report->problem.empty()) report->problem += "; ";
      report->problem += text;
    };
    const DwarfGaps* gaps = symbolizer.gaps();
    if (gaps != nullptr) {
      report->debug_file = binary.dwarf()->path();
      if (gaps->missing_split_units > 0) {
        add(std::to_string(gaps->missing_split_units) + " of " + std::to_string(gaps->split_units) +
            " units have their functions in a .dwo file that is not there (" + gaps->missing_split_file +
            ")");
        report->advice = "keep the build directory with its .dwo files, or compile without -gsplit-dwarf";
      }
      if (!gaps->bad_alternate.empty()) add(gaps->bad_alternate);
      if (gaps->bad_line_tables > 0) add(gaps->bad_line_table);
      return;
    }
    if (binary.file == nullptr && binary.debug == nullptr) {
      if (module.build_id.empty()) {
        report->advice = "keep the binary where it was, or name its directory with --debug-path";
      } else {
        report->advice =
            "name a directory that has the file of build-id " + module.build_id + " with --debug-path";
      }
      return;
    }
    if (module.name == "[vdso]")
      return;  // assembly and a few C functions of the kernel: their names are enough
    add(symbolizer.only_dynamic_symbols() ? "no debug information, and only the exported symbols"
                                          : "no debug information");
    bool is_system = module.name.starts_with("/usr/") || module.name.starts_with("/lib");
    report->advice = is_system ? "install its debug symbols (Debian: find-dbgsym-packages " + module.name +
                                     "), or set DEBUGINFOD_URLS"
                               : "compile it with -g, and do not strip it";
  }

  Profile* profile_;
  const SymbolizeOptions& options_;
  ProfileTables tables_;
  BinaryFinder finder_;
  std::vector<Module> modules_;
  std::unordered_map<const Location*, std::vector<PlannedLine>> plans_;
  std::unordered_map<std::string, std::string> display_names_;
};

// malloc and its like, as the agent knows them in the symbol tables; and what Rust has between them and the collections: the
// functions of its module `alloc`, the trait Allocator for Global, GlobalAlloc for System. A collection's own (RawVec's growth) says
// why memory was asked for.
bool IsAllocators(const std::string& symbol) {
  const std::string name = Demangle(symbol);
  static constexpr std::string_view kWhole[] = {"malloc",
                                                "calloc",
                                                "realloc",
                                                "alloc::alloc::alloc",
                                                "alloc::alloc::alloc_zeroed",
                                                "alloc::alloc::realloc",
                                                "alloc::alloc::exchange_malloc"};
  static constexpr std::string_view kLast[] = {"__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc",
                                               "__rdl_alloc",  "__rdl_alloc_zeroed",  "__rdl_realloc"};
  static constexpr std::string_view kBegin[] = {
      "alloc::alloc::Global::", "<alloc::alloc::Global>::",
      "<alloc::alloc::Global as core::alloc::Allocator>::", "<std::alloc::System as core::alloc::"};
  const size_t scope = name.rfind("::");
  const std::string_view last = std::string_view(name).substr(scope == name.npos ? 0 : scope + 2);
  return std::ranges::find(kWhole, name) != std::end(kWhole) ||
         std::ranges::find(kLast, last) != std::end(kLast) ||
         std::ranges::any_of(kBegin, [&](std::string_view begin) { return name.starts_with(begin); }) ||
         (name.starts_with("std::sys") && name.substr(0, name.find('<')).find("::alloc::") != name.npos);
}

}  // namespace

SymbolizeOptions SymbolizeOptions::FromEnvironment() {
  SymbolizeOptions options;
  if (const char* path = std::getenv("PROFAGENT_DEBUG_PATH")) {
    std::string_view rest = path;
    while (!rest.empty()) {
      size_t colon = std::min(rest.find(':'), rest.size());
      if (colon > 0) options.debug_path.emplace_back(rest.substr(0, colon));
      rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
  }
  const char* urls = std::getenv("DEBUGINFOD_URLS");
  options.use_debuginfod = urls != nullptr && *urls != '\0';
  return options;
}

std::string ModuleReport::Text() const {
  std::string text = name.empty() ? "(mapping without a name)" : name;
  switch (found) {
    case SymbolsFound::kDebugInfo:
      text += ": functions, files, lines and inlined calls";
      if (with_lines < locations) {
        text += " for " + std::to_string(with_lines) + " of " + std::to_string(locations) + " addresses";
      }
      break;
    case SymbolsFound::kSymbols:
      text += ": function names only, for " + std::to_string(named) + " of " + std::to_string(locations) +
              " addresses";
      break;
    case SymbolsFound::kNothing:
      text += ": nothing found";
      break;
  }
  if (!problem.empty()) text += ": " + problem;
  if (!advice.empty()) text += "; " + advice;
  return text;
}

Status Symbolize(Profile* profile, const SymbolizeOptions& options, SymbolizeReport* report) {
  if (profile->string_table_size() == 0) return Error::Of("not a valid profile: no string table");
  if (options.demangle) DemangleLocks(profile);
  if (Status status = Rewriter(profile, options).Run(report); !status) return status;
  HideInlinedAllocators(profile);
  return Done{};
}

Status NameByPerfMap(Profile* profile, const std::string& map, PerfMapRules rules, SymbolizeReport* report) {
  const SymbolizeOptions options;
  return Rewriter(profile, options).RunPerfMap(map, rules, report);
}

void HideInlinedAllocators(Profile* profile) {
  ProfileTables tables(profile);
  const bool is_heap = std::ranges::any_of(profile->sample_type(), [&](const auto& type) {
    return tables.Text(type.type()) == "alloc_space" || tables.Text(type.type()) == "peak_space";
  });
  if (!is_heap) return;
  std::unordered_map<uint64_t, Location*> locations;
  for (Location& location : *profile->mutable_location()) locations[location.id()] = &location;
  std::unordered_map<uint64_t, int> hidden_lines;  // from the innermost on, by location
  auto hidden_lines_of = [&](uint64_t id) {
    const auto [entry, is_new] = hidden_lines.try_emplace(id, 0);
    const auto found = locations.find(id);
    if (!is_new || found == locations.end()) return entry->second;
    const auto& lines = found->second->line();
    const auto shown = std::ranges::find_if(
        lines, [&](const Line& line) { return !IsAllocators(tables.NameOf(line.function_id())); });
    return entry->second = static_cast<int>(shown - lines.begin());
  };
  std::unordered_set<uint64_t> leaves;
  for (Sample& sample : *profile->mutable_sample()) {
    int hidden = 0;  // locations; a whole stack is never hidden
    for (; hidden + 1 < sample.location_id_size(); ++hidden) {
      const uint64_t id = sample.location_id(hidden);
      const int lines = hidden_lines_of(id);
      if (lines == 0 || lines < locations[id]->line_size()) break;
    }
    auto* stack = sample.mutable_location_id();
    stack->erase(stack->begin(), stack->begin() + hidden);
    if (!stack->empty() && hidden_lines_of(stack->at(0)) > 0) leaves.insert(stack->at(0));
  }
  for (const uint64_t leaf : leaves) {
    auto* lines = locations[leaf]->mutable_line();
    const int hidden = hidden_lines_of(leaf);
    if (hidden < lines->size()) lines->DeleteSubrange(0, hidden);
  }
}

void DemangleLocks(Profile* profile) {
  ProfileTables tables(profile);
  for (Sample& sample : *profile->mutable_sample()) {
    for (Label& label : *sample.mutable_label()) {
      if (tables.Text(label.key()) != kLockLabel) continue;
      const std::string text = tables.Text(label.str());
      const size_t end = std::min(text.find('+'), text.size());
      label.set_str(tables.Intern(Demangle(text.substr(0, end)) + text.substr(end)));
    }
  }
}

}  // namespace profagent
