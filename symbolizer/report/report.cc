#include "symbolizer/report/report.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "symbolizer/graph/demangle.h"
#include "symbolizer/graph/filter.h"
#include "symbolizer/profile/measurement.h"
#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/report/report_data.h"
#include "symbolizer/report/tag_filter.h"

namespace profagent {
namespace {

using Warnings = std::vector<std::string>;

// What some reports decide themselves, whatever the options say.
void OverrideOptions(ReportOptions& options) {
  if (options.node_count == -1) options.node_count = 0;
  if (options.kind == ReportKind::kRaw) {
    options.trim = false;
    options.granularity = Granularity::kAddresses;
    options.no_inlines = false;
  }
  if (!options.trim) {
    options.node_count = 0;
    options.node_fraction = 0;
    options.edge_fraction = 0;
  }
}

// The unit of each numeric label: the first one met for its key; without any, what the key itself suggests.
LabelUnits FindLabelUnits(const graph::View& view, Warnings& warnings) {
  LabelUnits units;
  std::map<graph::StringId, std::set<std::string>> ignored;
  for (const graph::Sample& sample : view.samples) {
    for (const graph::NumLabel& label : sample.num_labels) {
      graph::StringId& unit = units[label.key];
      if (label.unit == graph::kEmpty) continue;
      if (unit == graph::kEmpty)
        unit = label.unit;
      else if (unit != label.unit)
        ignored[label.key].insert(view.Text(label.unit));
    }
  }
  for (auto& [key, unit] : units) {
    if (unit != graph::kEmpty) continue;
    const std::string& text = view.Text(key);
    unit = text == "alignment" || text == "request" ? view.strings->Intern("bytes") : key;
  }
  for (const auto& [key, others] : ignored) {
    std::string joined;
    for (const std::string& other : others) joined.append(joined.empty() ? "" : ", ").append(other);
    warnings.push_back("For tag " + view.Text(key) + " used unit " + view.Text(units.at(key)) +
                       ", also encountered unit(s) " + joined);
  }
  return units;
}

// --- frames made of labels (-tagroot, -tagleaf) ---

std::vector<graph::StringId> SplitKeys(const graph::View& view, std::string_view list) {
  std::vector<graph::StringId> keys;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    if (end > at) keys.push_back(view.strings->Intern(list.substr(at, end - at)));
    at = end + 1;
  }
  return keys;
}

class LabelFrames {
 public:
  LabelFrames(graph::View& view, const std::string& unit) : view_(view), unit_(unit) {
    for (const graph::Location& location : view.locations) next_id_ = std::max(next_id_, location.id + 1);
  }

  // One location a key, the last key first: it is nearest to the leaf.
  std::vector<uint32_t> Make(const graph::Sample& sample, const std::vector<graph::StringId>& keys,
                             bool& matched) {
    std::vector<uint32_t> locations;
    for (size_t i = keys.size(); i-- > 0;) {
      bool found = false;
      const graph::StringId values = ValuesOf(sample, keys[i], found);
      matched |= found;
      locations.push_back(LocationOf(values, keys[i]));
    }
    return locations;
  }

 private:
  graph::StringId ValuesOf(const graph::Sample& sample, graph::StringId key, bool& found) {
    std::string joined;
    const auto add = [&](const std::string& value) {
      joined.append(found ? "," : "").append(value);
      found = true;
    };
    for (const graph::TextLabel& label : sample.text_labels)
      if (label.key == key) add(view_.Text(label.value));
    const bool units = std::ranges::any_of(sample.num_labels, [&](const graph::NumLabel& label) {
      return label.key == key && label.unit != graph::kEmpty;
    });
    for (const graph::NumLabel& label : sample.num_labels) {
      if (label.key != key) continue;
      add(units ? ScaledLabel(label.value, view_.Text(label.unit), unit_) : ScaledLabel(label.value, "", ""));
    }
    return view_.strings->Intern(joined);
  }

  uint32_t LocationOf(graph::StringId name, graph::StringId key) {
    const auto [place, added] =
        known_.emplace(std::pair(name, key), static_cast<uint32_t>(view_.locations.size()));
    if (added) {
      view_.functions.push_back({.name = name, .file = key});
      graph::Location& location = view_.locations.emplace_back();
      location.id = next_id_++;
      location.lines.push_back({.function = static_cast<uint32_t>(view_.functions.size() - 1)});
    }
    return place->second;
  }

  graph::View& view_;
  const std::string& unit_;
  std::map<std::pair<graph::StringId, graph::StringId>, uint32_t> known_;
  uint64_t next_id_ = 1;
};

void AddLabelFrames(graph::View& view, const ReportOptions& options, Warnings& warnings) {
  if (options.tag_root.empty() && options.tag_leaf.empty()) return;
  const auto roots = SplitKeys(view, options.tag_root), leaves = SplitKeys(view, options.tag_leaf);
  LabelFrames frames(view, options.unit);
  bool root_matched = false, leaf_matched = false;
  for (graph::Sample& sample : view.samples) {
    const std::vector<uint32_t> above = frames.Make(sample, roots, root_matched);
    const std::vector<uint32_t> below = frames.Make(sample, leaves, leaf_matched);
    sample.locations.insert(sample.locations.begin(), below.begin(), below.end());
    sample.locations.insert(sample.locations.end(), above.begin(), above.end());
  }
  if (!options.tag_root.empty() && !root_matched)
    warnings.emplace_back("TagRoot expression matched no samples");
  if (!options.tag_leaf.empty() && !leaf_matched)
    warnings.emplace_back("TagLeaf expression matched no samples");
}

// --- filters ---

Status ApplyFilters(graph::View& view, const LabelUnits& units, const ReportOptions& options,
                    Warnings& warnings) {
  struct Named {
    std::string_view name;
    const std::string& text;
    graph::PatternPtr pattern;
  };
  Named named[] = {{"focus", options.focus, {}},         {"ignore", options.ignore, {}},
                   {"hide", options.hide, {}},           {"show", options.show, {}},
                   {"show_from", options.show_from, {}}, {"prune_from", options.prune_from, {}},
                   {"tagshow", options.tag_show, {}},    {"taghide", options.tag_hide, {}}};
  for (Named& one : named) {
    Result<graph::PatternPtr> pattern = graph::Pattern::Compile(one.name, one.text);
    if (!pattern) return pattern.error();
    one.pattern = *pattern;
  }
  const auto& [focus, ignore, hide, show, show_from, prune_from, tag_show, tag_hide] = named;
  const auto tag_focus = CompileTagFilter(view, units, "tagfocus", options.tag_focus, warnings);
  if (!tag_focus) return tag_focus.error();
  const auto tag_ignore = CompileTagFilter(view, units, "tagignore", options.tag_ignore, warnings);
  if (!tag_ignore) return tag_ignore.error();

  const auto warn = [&](bool wanted, bool matched, std::string_view name) {
    if (wanted && !matched) warnings.push_back(std::string(name) + " expression matched no samples");
  };
  const graph::NameMatches names =
      graph::FilterByName(view, {focus.pattern, ignore.pattern, hide.pattern, show.pattern});
  warn(focus.pattern != nullptr, names.focus, "Focus");
  warn(ignore.pattern != nullptr, names.ignore, "Ignore");
  warn(hide.pattern != nullptr, names.hide, "Hide");
  warn(show.pattern != nullptr, names.show, "Show");
  if (show_from.pattern != nullptr) warn(true, graph::ShowFrom(view, *show_from.pattern), "ShowFrom");
  const graph::TagMatches tags = graph::FilterByTag(view, *tag_focus, *tag_ignore);
  warn(static_cast<bool>(*tag_focus), tags.focus, "TagFocus");
  warn(static_cast<bool>(*tag_ignore), tags.ignore, "TagIgnore");
  const graph::LabelMatches labels = graph::FilterLabels(view, tag_show.pattern, tag_hide.pattern);
  warn(tag_show.pattern != nullptr, labels.show, "TagShow");
  warn(tag_hide.pattern != nullptr, labels.hide, "TagHide");
  if (prune_from.pattern != nullptr) graph::PruneFrom(view, *prune_from.pattern);
  return Done{};
}

std::vector<std::string> ActiveFilters(const ReportOptions& options) {
  std::vector<std::string> filters;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) filters.push_back(std::string(name) + "=" + value);
  };
  add("focus", options.focus);
  add("ignore", options.ignore);
  add("hide", options.hide);
  add("show", options.show);
  add("show_from", options.show_from);
  add("tagfocus", options.tag_focus);
  add("tagignore", options.tag_ignore);
  add("tagshow", options.tag_show);
  add("taghide", options.tag_hide);
  return filters;
}

// --- which value, and their sum ---

Result<size_t> FindSampleIndex(const graph::View& view, const std::string& wanted) {
  const size_t count = view.sample_types.size();
  if (count == 0) return Error::Of("profile has no samples");
  if (wanted.empty()) {
    for (size_t i = 0; i < count; ++i)
      if (view.default_sample_type != graph::kEmpty && view.sample_types[i].type == view.default_sample_type)
        return i;
    return count - 1;
  }
  std::string_view digits = wanted;
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (failure == std::errc() && end == digits.data() + digits.size()) {
    if (number < 0 || static_cast<uint64_t>(number) >= count)
      return Error::Of("sample_index ", wanted, " is outside the range [0..", count - 1, "]");
    return static_cast<size_t>(number);
  }
  // A heap profile of the old kind has "space" where a new one has "inuse_space".
  constexpr std::string_view kInUse = "inuse_";
  const std::string_view short_name =
      wanted.starts_with(kInUse) ? std::string_view(wanted).substr(kInUse.size()) : std::string_view(wanted);
  std::string names;
  for (size_t i = 0; i < count; ++i) {
    const std::string& type = view.Text(view.sample_types[i].type);
    if (type == wanted || type == short_name) return i;
    names.append(i == 0 ? "" : " ").append(type);
  }
  return Error::Of("sample_index \"", wanted, "\" must be one of: [", names, "]");
}

bool IsDiffBase(const graph::View& view, const graph::Sample& sample) {
  return std::ranges::any_of(sample.text_labels, [&](const graph::TextLabel& label) {
    return view.Text(label.key) == "pprof::base" && view.Text(label.value) == "true";
  });
}

// The sum of what is there, not of what is left after subtraction: |value|, and of a diff_base the base
// alone.
int64_t ComputeTotal(const ReportData& report) {
  int64_t total = 0, divisor = 0, base_total = 0, base_divisor = 0;
  for (const graph::Sample& sample : report.view.samples) {
    const int64_t value = WrappingAbs(report.ValueOf(sample));
    const int64_t weight = report.options.mean ? sample.values[0] : 0;
    total = WrappingAdd(total, value);
    divisor = WrappingAdd(divisor, weight);
    if (IsDiffBase(report.view, sample)) {
      base_total = WrappingAdd(base_total, value);
      base_divisor = WrappingAdd(base_divisor, weight);
    }
  }
  if (base_total > 0) {
    total = base_total;
    divisor = base_divisor;
  }
  return divisor != 0 ? WrappingDivide(total, divisor) : total;
}

// Forgets what the granularity does not tell apart.
void Aggregate(graph::View& view, const ReportOptions& options) {
  const Granularity granularity = options.granularity;
  const bool addresses = granularity == Granularity::kAddresses;
  if (addresses && !options.no_inlines) return;
  const bool functions = granularity != Granularity::kFiles;
  const bool files = granularity != Granularity::kFunctions;
  const bool lines = addresses || granularity == Granularity::kLines;
  for (graph::Function& function : view.functions) {
    if (!functions) function.name = function.system_name = graph::kEmpty;
    if (!files) function.file = graph::kEmpty;
  }
  for (graph::Location& location : view.locations) {
    if (options.no_inlines && location.lines.size() > 1)
      location.lines.erase(location.lines.begin(), location.lines.end() - 1);
    for (graph::Line& line : location.lines)
      if (!lines) line.line = 0;
    if (!addresses) location.address = 0;
  }
}

}  // namespace

Result<ReportText> MakeReport(graph::View view, const ReportOptions& options) {
  ReportText result;
  ReportData report;
  report.view = std::move(view);
  report.options = options;
  report.label_units = FindLabelUnits(report.view, result.warnings);
  OverrideOptions(report.options);
  AddLabelFrames(report.view, report.options, result.warnings);

  const auto apply_filters = [&] {
    return ApplyFilters(report.view, report.label_units, report.options, result.warnings);
  };
  if (options.relative_percentages) {
    const Status filtered = apply_filters();
    if (!filtered) return filtered.error();
  }
  const Result<size_t> index = FindSampleIndex(report.view, options.sample_index);
  if (!index) return index.error();
  if (options.divide_by == 0) return Error::Of("zero divisor specified");
  report.sample_index = *index;
  const graph::ValueType& type = report.view.sample_types[*index];
  report.sample_type = (options.mean ? "mean_" : "") + report.view.Text(type.type);
  report.sample_unit = report.view.Text(type.unit);
  report.output_unit = options.unit;
  report.active_filters = ActiveFilters(options);
  report.total = ComputeTotal(report);
  if (!options.relative_percentages) {
    const Status filtered = apply_filters();
    if (!filtered) return filtered.error();
  }
  Aggregate(report.view, report.options);

  switch (options.kind) {
    case ReportKind::kTop:
      WriteTop(report, result.text);
      break;
    case ReportKind::kTraces:
      WriteTraces(report, result.text);
      break;
    case ReportKind::kRaw:
      WriteRaw(report, result.text);
      break;
  }
  return result;
}

Result<ReportText> MakeReport(const Profile& profile, const ReportOptions& options) {
  graph::View view = graph::MakeView(Compact(profile));
  graph::DemangleNames(view);
  graph::DropUninteresting(view);
  return MakeReport(std::move(view), options);
}

}  // namespace profagent
