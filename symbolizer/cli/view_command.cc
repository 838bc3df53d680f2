#include "symbolizer/cli/view_command.h"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "symbolizer/cli/command.h"
#include "symbolizer/graph/demangle.h"
#include "symbolizer/graph/filter.h"
#include "symbolizer/profile/load_profiles.h"
#include "symbolizer/profile/write_profile.h"
#include "symbolizer/report/report.h"

namespace profagent {
namespace {

// Options of pprof for which there is nothing behind them yet. Each is refused by its name: silence would be
// a wrong report.
constexpr std::string_view kNotYet[] = {
    "callgrind",    "comments",    "disasm",  "dot",        "eog",    "evince",   "gif",     "gv",
    "http",         "kcachegrind", "list",    "no_browser", "pdf",    "peek",     "png",     "proto",
    "ps",           "svg",         "tags",    "topproto",   "tree",   "web",      "weblist", "call_tree",
    "intel_syntax", "seconds",     "timeout", "tools",      "tls_ca", "tls_cert", "tls_key",
};

struct ViewRequest {
  ReportOptions report;
  LoadRequest load;
  std::vector<std::string> files;
  std::string output;
  std::string symbolize;
  bool demangle = true;
  std::string comment;

  // One switch each, as pprof has them; Settle turns them into what they mean.
  bool top = false, text = false, traces = false, raw = false;
  bool flat = false, cum = false;
  bool functions = false, filefunctions = false, files_granularity = false, lines = false, addresses = false;
  bool inuse_space = false, inuse_objects = false, alloc_space = false, alloc_objects = false;
  bool total_delay = false, contentions = false, mean_delay = false;
  std::string base, diff_base;
};

// A number as Go's flags read it. CLI11's own conversion takes "" for 0 and what is too large for the largest.
bool ParseNumber(const std::string& text, int64_t& value) {
  std::string_view digits = text;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  int base = 10;
  if (digits.size() > 1 && digits[0] == '0') {
    const char letter = static_cast<char>(digits[1] | 0x20);
    base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
    digits.remove_prefix(letter == 'x' || letter == 'b' || letter == 'o' ? 2 : 1);
  }
  uint64_t size = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), size, base);
  if (failure != std::errc() || end != digits.data() + digits.size()) return false;
  if (size > uint64_t{std::numeric_limits<int64_t>::max()} + (negative ? 1 : 0)) return false;
  value = static_cast<int64_t>(negative ? 0 - size : size);
  return true;
}

bool ParseNumber(const std::string& text, double& value) {
  // What strtod takes and Go does not: spaces in front, "nan(1)" and "-nan", hexadecimal digits without an exponent.
  if (text.find_first_of(" \t\n\v\f\r(") != std::string::npos) return false;
  const bool hexadecimal = text.find_first_of("xX") != std::string::npos;
  if (hexadecimal && text.find_first_of("pP") == std::string::npos) return false;
  char* end = nullptr;
  errno = 0;
  value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') return false;
  if (std::isnan(value)) return text.size() == 3;
  return errno != ERANGE || std::isfinite(value);  // too small is 0, too large is an error
}

void AddOptions(CLI::App& app, ViewRequest& request) {
  ReportOptions& report = request.report;
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->always_capture_default(false);

  std::string group;
  const auto flag = [&](const char* name, bool& value, const char* help) {
    app.add_flag(name, value, help)->group(group);
  };
  const auto option = [&](const char* name, auto& value, const char* type, const char* help) {
    app.add_option(name, value, help)->type_name(type)->group(group);
  };

  const auto number = [&](const char* name, auto& value, const char* type, const char* help) {
    CLI::callback_t parse = [&value](const CLI::results_t& texts) {
      return ParseNumber(texts.front(), value);
    };
    app.add_option(name, std::move(parse), help)->type_name(type)->group(group);
  };

  group = "Reports (one at a time)";
  flag("--top,--text", request.top, "places, heaviest first (the default)");
  flag("--traces", request.traces, "every distinct stack with its labels and its weight");
  flag("--raw", request.raw, "everything that the profile holds, as text");

  group = "What is counted";
  option("--sample_index", report.sample_index, "NAME|N",
         "which value of a sample: its name, or its number from 0");
  flag("--mean", report.mean, "average over the first value of a sample (its count)");
  option("--unit", report.unit, "UNIT", "print values in this unit; `auto` chooses one for each value");
  number("--divide_by", report.divide_by, "X", "divide all values by X");
  flag("--inuse_space", request.inuse_space, "same as -sample_index=inuse_space");
  flag("--inuse_objects", request.inuse_objects, "same as -sample_index=inuse_objects");
  flag("--alloc_space", request.alloc_space, "same as -sample_index=alloc_space");
  flag("--alloc_objects", request.alloc_objects, "same as -sample_index=alloc_objects");
  flag("--total_delay", request.total_delay, "same as -sample_index=delay");
  flag("--contentions", request.contentions, "same as -sample_index=contentions");
  flag("--mean_delay", request.mean_delay, "same as -mean -sample_index=delay");

  group = "Order and size";
  flag("--flat", request.flat, "sort by what was spent in a place itself (the default)");
  flag("--cum", request.cum, "sort by what was spent in it and below it");
  number("--nodecount", report.node_count, "N", "at most N places");
  number("--nodefraction", report.node_fraction, "F", "leave out places below F of the total (0.005)");
  number("--edgefraction", report.edge_fraction, "F", "leave out calls below F of the total (0.001)");
  flag("--trim", report.trim, "honour the three above (on); -trim=false shows everything");
  flag("--drop_negative", report.drop_negative, "leave out places below zero (of a difference)");
  flag("--relative_percentages", report.relative_percentages, "percentages of what the filters leave");
  flag("--compact_labels", report.compact_labels, "no header");

  group = "What is one place";
  flag("--functions", request.functions, "a function (the default)");
  flag("--filefunctions", request.filefunctions, "a function in a file");
  flag("--files", request.files_granularity, "a file");
  flag("--lines", request.lines, "a line");
  flag("--addresses", request.addresses, "an address");
  flag("--noinlines", report.no_inlines, "charge inlined functions to the function they were inlined into");
  option("--trim_path", report.trim_path, "DIRS",
         "take these off the names of source files (separated by ':')");
  option("--source_path", report.source_path, "DIRS", "where source files are now");

  group = "Filters (regular expressions of RE2, searched in function, file and object names)";
  option("--focus", report.focus, "RE", "only stacks with a frame that matches");
  option("--ignore", report.ignore, "RE", "no stacks with a frame that matches");
  option("--hide", report.hide, "RE", "leave frames that match out of their stacks");
  option("--show", report.show, "RE", "leave all other frames out of their stacks");
  option("--show_from", report.show_from, "RE", "leave out what is above the outermost frame that matches");
  option("--prune_from", report.prune_from, "RE", "leave out what is below a frame that matches");
  option("--tagfocus", report.tag_focus, "TAG",
         "only samples with such a label: RE, KEY=RE, 1kb:10kb, KEY=:5ms");
  option("--tagignore", report.tag_ignore, "TAG", "no samples with such a label");
  option("--tagshow", report.tag_show, "RE", "only labels whose key matches");
  option("--taghide", report.tag_hide, "RE", "no labels whose key matches");
  option("--tagroot", report.tag_root, "KEYS", "put the values of these labels above the stacks, as frames");
  option("--tagleaf", report.tag_leaf, "KEYS", "put the values of these labels below the stacks, as frames");

  group = "Sources and output";
  option("--base", request.base, "FILE", "subtract this profile");
  option("--diff_base", request.diff_base, "FILE", "subtract this profile; percentages are of it");
  flag("--normalize", request.load.normalize, "scale to the sum of the base first");
  option("--buildid", request.load.build_id, "ID", "build-id of the main program, instead of the profile's");
  option("--add_comment", request.comment, "TEXT", "a line for the header");
  option("--symbolize", request.symbolize, "MODE",
         "`none` shows names as the profile has them, not demangled");
  option("--output", request.output, "FILE", "write the report there");
  app.add_option("PROFILE", request.files)->group("");
}

std::optional<bool> ToBool(std::string_view text) {
  static constexpr std::string_view kTrue[] = {"1", "t", "T", "true", "TRUE", "True"};
  static constexpr std::string_view kFalse[] = {"0", "f", "F", "false", "FALSE", "False"};
  if (std::ranges::find(kTrue, text) != std::end(kTrue)) return true;
  if (std::ranges::find(kFalse, text) != std::end(kFalse)) return false;
  return std::nullopt;
}

// Go's flag syntax to CLI11's. Go: one dash or two; `-name=value`, or `-name value` unless the option is a
// switch; a switch may be `-name=false`; `--` ends the options. CLI11 takes one dash for bundled letters,
// reads `--name value` wrongly if the value starts with a dash, and drops `--name=`. So: `--name=value`, or
// `--name` and then "" by itself. One thing is added: options may also follow the files (pprof would take
// them for files).
Result<std::vector<std::string>> TranslateArguments(const CLI::App& app,
                                                    const std::vector<std::string>& arguments) {
  std::vector<std::string> translated;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      translated.insert(translated.end(), arguments.begin() + static_cast<ptrdiff_t>(i), arguments.end());
      break;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      translated.push_back(argument);
      continue;
    }
    const std::string text = argument.substr(argument[1] == '-' ? 2 : 1);
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = text.substr(equals + 1);

    if (std::ranges::find(kNotYet, name) != std::end(kNotYet))
      return Error::Of("-", name, " of pprof is not in profagent yet; `go tool pprof` reads the same file");
    const CLI::Option* option = app.get_option_no_throw("--" + name);
    if (option == nullptr) return Error::Of("flag provided but not defined: -", name);
    if (option->get_expected_min() == 0) {  // a switch
      const std::optional<bool> on = ToBool(value.value_or("true"));
      if (!on) return Error::Of("invalid boolean value \"", *value, "\" for -", name);
      translated.push_back("--" + name + (*on ? "=true" : "=false"));
      continue;
    }
    if (!value) {
      if (i + 1 == arguments.size()) return Error::Of("flag needs an argument: -", name);
      value = arguments[++i];
    }
    if (value->empty())
      translated.insert(translated.end(), {"--" + name, ""});
    else
      translated.push_back("--" + name + "=" + *value);
  }
  return translated;
}

// "Could not convert: --nodecount = x"
std::string InPprofsWords(std::string text) {
  static constexpr std::string_view kConversion = "Could not convert: --";
  const size_t equals = text.find(" = ");
  if (text.starts_with(kConversion) && equals != std::string::npos) {
    return "invalid value \"" + text.substr(equals + 3) + "\" for flag -" +
           text.substr(kConversion.size(), equals - kConversion.size()) + ": not a number";
  }
  if (const size_t dashes = text.find("--"); dashes != std::string::npos) text.erase(dashes, 1);
  return text;
}

bool IsElf(const std::string& path) {
  char magic[4] = {};
  return std::ifstream(path, std::ios::binary).read(magic, sizeof magic) && std::string_view(magic, 4) ==
                                                                                "\x7f"
                                                                                "ELF";
}

// With two files or more the first may be the program, or stand for its build-id.
void TakeProgram(ViewRequest& request) {
  request.load.sources = request.files;
  std::vector<std::string>& sources = request.load.sources;
  if (sources.size() < 2) return;
  const std::string& first = sources.front();
  const bool hex = first.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  if (IsElf(first))
    request.load.program = first;
  else if (hex && request.load.build_id.empty())
    request.load.build_id = first;
  else
    return;
  sources.erase(sources.begin());
}

// -symbolize: words between colons. Of pprof's, those are accepted that ask for what is done anyway; `none` ends the list.
Status SettleSymbolize(ViewRequest& request) {
  std::string words = CLI::detail::to_lower(request.symbolize);
  for (const std::string& word : CLI::detail::split(words, ':')) {
    if (word == "none" || word == "no") {
      request.demangle = false;
      break;
    }
    if (word.empty() || word == "local" || word == "fastlocal" || word == "remote" ||
        word == "demangle=default")
      continue;
    if (word == "force" || word == "demangle=full" || word == "demangle=templates" || word == "demangle=none")
      return Error::Of("-symbolize=", word, " is not in profagent yet; `go tool pprof` reads the same file");
    PrintError("ignoring unrecognized symbolization option: " + request.symbolize);
  }
  return Done{};
}

// The switches, each a short way to say something else.
Status Settle(ViewRequest& request) {
  ReportOptions& report = request.report;
  struct Choice {
    bool chosen;
    const char* name;
  };
  const auto only_one = [](std::initializer_list<Choice> choices) -> std::optional<Error> {
    std::string chosen;
    for (const Choice& choice : choices)
      if (choice.chosen) chosen.append(chosen.empty() ? "" : " ").append(choice.name);
    if (chosen.find(' ') == std::string::npos) return std::nullopt;
    return Error::Of("conflicting options set: [", chosen, "]");
  };
  if (request.top + request.traces + request.raw > 1) return Error::Of("must set at most one output format");
  if (request.traces) report.kind = ReportKind::kTraces;
  if (request.raw) report.kind = ReportKind::kRaw;

  if (const auto conflict = only_one({{request.cum, "cum"}, {request.flat, "flat"}})) return *conflict;
  if (request.cum) report.sort = ReportSort::kCum;
  if (const auto conflict = only_one({{request.functions, "functions"},
                                      {request.filefunctions, "filefunctions"},
                                      {request.files_granularity, "files"},
                                      {request.lines, "lines"},
                                      {request.addresses, "addresses"}}))
    return *conflict;
  if (request.filefunctions) report.granularity = Granularity::kFileFunctions;
  if (request.files_granularity) report.granularity = Granularity::kFiles;
  if (request.lines) report.granularity = Granularity::kLines;
  if (request.addresses) report.granularity = Granularity::kAddresses;

  const struct {
    bool chosen;
    const char *option, *sample_type;
  } values[] = {{request.total_delay, "total_delay", "delay"},
                {request.mean_delay, "mean_delay", "delay"},
                {request.contentions, "contentions", "contentions"},
                {request.inuse_space, "inuse_space", "inuse_space"},
                {request.inuse_objects, "inuse_objects", "inuse_objects"},
                {request.alloc_space, "alloc_space", "alloc_space"},
                {request.alloc_objects, "alloc_objects", "alloc_objects"}};
  for (const auto& value : values) {
    if (!value.chosen) continue;
    if (report.sample_index.empty())
      report.sample_index = value.sample_type;
    else
      PrintError(std::string("Multiple value selections, ignoring -") + value.option);
  }
  if (request.mean_delay) report.mean = true;

  if (!request.base.empty() && !request.diff_base.empty())
    return Error::Of("-base and -diff_base flags cannot both be specified");
  if (!request.base.empty()) request.load.bases = {request.base};
  if (!request.diff_base.empty()) request.load.bases = {request.diff_base};
  request.load.diff_base = !request.diff_base.empty();
  if (request.load.normalize && request.load.bases.empty())
    return Error::Of("must have base profile to normalize by");
  if (const Status symbolize = SettleSymbolize(request); !symbolize) return symbolize.error();
  if (request.files.empty()) return Error::Of("no profile source specified");
  if (std::ranges::find(request.files, "") != request.files.end())
    return Error::Of("the name of a profile is empty");
  TakeProgram(request);
  return Done{};
}

Status Show(const ViewRequest& request) {
  const Result<LoadedProfile> loaded = LoadProfiles(request.load);
  if (!loaded) return loaded.error();
  for (const std::string& warning : loaded->warnings) PrintError(std::string_view(warning));

  graph::View view = graph::MakeView(loaded->profile);
  if (request.demangle) graph::DemangleNames(view);
  graph::DropUninteresting(view);
  if (!request.comment.empty()) view.comments.push_back(view.strings->Intern(request.comment));
  const Result<ReportText> report = MakeReport(std::move(view), request.report);
  if (!report) return report.error();
  for (const std::string& warning : report->warnings) PrintError(std::string_view(warning));

  if (!request.output.empty()) {
    PrintError("Generating report in " + request.output);
    const mode_t hidden = umask(0);
    umask(hidden);
    return WriteWholeFile(report->text, request.output, 0666 & ~hidden);
  }
  std::fwrite(report->text.data(), 1, report->text.size(), stdout);  // main looks whether it arrived
  return Done{};
}

}  // namespace

int RunViewer(const std::vector<std::string>& arguments) {
  CLI::App app("", "profagent");
  app.set_help_flag();
  ViewRequest request;
  AddOptions(app, request);

  const auto refuse = [](const Error& error) {
    PrintError(error);
    PrintError(std::string_view("`profagent --help` lists what is accepted"));
    return kExitUsage;
  };
  Result<std::vector<std::string>> translated = TranslateArguments(app, arguments);
  if (!translated) return refuse(translated.error());
  std::ranges::reverse(*translated);  // CLI11 pops them off the end
  try {
    app.parse(*translated);
  } catch (const CLI::ParseError& error) {
    return refuse(Error::Of(InPprofsWords(error.what())));
  }
  if (const Status settled = Settle(request); !settled) return refuse(settled.error());
  if (const Status shown = Show(request); !shown) {
    PrintError(shown.error());
    return kExitFailure;
  }
  return kExitOk;
}

std::string ViewerOptionsHelp() {
  CLI::App app("", "profagent");
  app.set_help_flag();
  ViewRequest request;
  AddOptions(app, request);
  std::string text = "Options:\n";
  for (const std::string& group : app.get_groups()) {
    if (group.empty()) continue;
    text += "  " + group + ":\n";
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group() != group) continue;
      std::string left = "    ";
      const char* separator = "";
      for (const std::string& name : option->get_lnames()) {
        left.append(separator).append("-").append(name);
        separator = ", ";
      }
      if (const std::string type = option->get_type_name(); !type.empty()) left += " " + type;
      left.resize(std::max<size_t>(left.size() + 1, 30), ' ');
      text += left + option->get_description() + "\n";
    }
  }
  return text;
}

}  // namespace profagent
