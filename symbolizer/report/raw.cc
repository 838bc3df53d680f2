// -raw: everything that the profile holds, as text.
#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "symbolizer/report/go_text.h"
#include "symbolizer/report/report_data.h"

namespace profagent {
namespace {

std::string Hex(uint64_t value) {
  char digits[24];
  return {digits, static_cast<size_t>(std::snprintf(digits, sizeof digits, "0x%" PRIx64, value))};
}

// "[a b]" of each key as "key:[a b]", sorted as texts and joined.
template <class Label, class ValueText>
std::string LabelsText(const graph::View& view, const std::vector<Label>& labels, ValueText value_text) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (i == 0 || labels[i].key != labels[i - 1].key)
      texts.push_back(view.Text(labels[i].key) + ":[");
    else
      texts.back() += ' ';
    texts.back() += value_text(labels[i]);
    if (i + 1 == labels.size() || labels[i + 1].key != labels[i].key) texts.back() += ']';
  }
  std::ranges::sort(texts);
  std::string joined;
  for (const std::string& one : texts) joined.append(joined.empty() ? "" : " ").append(one);
  return joined;
}

void AppendSample(const graph::View& view, const graph::Sample& sample, std::string& text) {
  for (const int64_t value : sample.values) {
    text += ' ';
    AppendPadded(text, std::to_string(value), 10);
  }
  text += ": ";
  for (const uint32_t location : sample.locations) text += std::to_string(view.locations[location].id) + " ";
  text += '\n';
  constexpr std::string_view kIndent = "                ";
  if (!sample.text_labels.empty()) {
    text += kIndent;
    text += LabelsText(view, sample.text_labels,
                       [&](const graph::TextLabel& label) { return view.Text(label.value); });
    text += '\n';
  }
  if (!sample.num_labels.empty()) {
    // One unit makes all values of its key print theirs, empty as it may be.
    const auto has_unit = [&](graph::StringId key) {
      return std::ranges::any_of(sample.num_labels, [&](const graph::NumLabel& label) {
        return label.key == key && label.unit != graph::kEmpty;
      });
    };
    text += kIndent;
    text += LabelsText(view, sample.num_labels, [&](const graph::NumLabel& label) {
      std::string value = std::to_string(label.value);
      return has_unit(label.key) ? value + " " + view.Text(label.unit) : value;
    });
    text += '\n';
  }
}

void AppendLocation(const graph::View& view, const graph::Location& location, std::string& text) {
  AppendPadded(text, std::to_string(location.id), 6);
  text += ": " + Hex(location.address) + " ";
  if (location.mapping != graph::kNone)
    text += "M=" + std::to_string(view.mappings[location.mapping].id) + " ";
  if (location.is_folded) text += "[F] ";
  if (location.lines.empty()) text += '\n';
  for (size_t i = 0; i < location.lines.size(); ++i) {
    if (i > 0) text += "             ";
    const graph::Line& line = location.lines[i];
    const graph::Function& function = view.functions[line.function];
    text += view.Text(function.name) + " " + view.Text(function.file) + ":" + std::to_string(line.line) +
            " s=" + std::to_string(function.start_line);
    if (function.name != function.system_name) text += "(" + view.Text(function.system_name) + ")";
    text += '\n';
  }
}

void AppendMapping(const graph::View& view, const graph::Mapping& mapping, std::string& text) {
  text += std::to_string(mapping.id) + ": " + Hex(mapping.start) + "/" + Hex(mapping.limit) + "/" +
          Hex(mapping.offset) + " " + view.Text(mapping.file) + " " + view.Text(mapping.build_id) + " ";
  if (mapping.has_functions) text += "[FN]";
  if (mapping.has_filenames) text += "[FL]";
  if (mapping.has_line_numbers) text += "[LN]";
  if (mapping.has_inline_frames) text += "[IN]";
  text += '\n';
}

}  // namespace

void WriteRaw(const ReportData& report, std::string& text) {
  const graph::View& view = report.view;
  for (const graph::StringId comment : view.comments) text += "Comment: " + view.Text(comment) + "\n";
  text += "PeriodType: " + view.Text(view.period_type.type) + " " + view.Text(view.period_type.unit) + "\n";
  text += "Period: " + std::to_string(view.period) + "\n";
  if (view.time_nanos != 0) text += "Time: " + RawTime(view.time_nanos) + "\n";
  if (view.duration_nanos != 0) {
    // Four characters of it, whatever they are: pprof formats the duration with %.4v.
    text.append("Duration: ").append(FirstCharacters(DurationText(view.duration_nanos), 4)).append("\n");
  }
  text += "Samples:\n";
  std::string types;
  for (const graph::ValueType& type : view.sample_types) {
    types += view.Text(type.type) + "/" + view.Text(type.unit);
    if (type.type == view.default_sample_type) types += "[dflt]";
    types += ' ';
  }
  text.append(TrimSpace(types)).push_back('\n');
  for (const graph::Sample& sample : view.samples) AppendSample(view, sample, text);
  text += "Locations\n";
  for (const graph::Location& location : view.locations) AppendLocation(view, location, text);
  text += "Mappings\n";
  for (const graph::Mapping& mapping : view.mappings) AppendMapping(view, mapping, text);
}

}  // namespace profagent
