// -traces: every sample with its labels and its stack, leaf first.
#include <algorithm>

#include "symbolizer/profile/measurement.h"
#include "symbolizer/report/go_text.h"
#include "symbolizer/report/report_data.h"

namespace profagent {
namespace {

constexpr std::string_view kSeparator =
    "-----------+-------------------------------------------------------\n";

// Labels are grouped by key; `value_text` gives one value. Appends "       key:  value value".
template <class Label, class ValueText>
void AppendLabels(const ReportData& report, const std::vector<Label>& labels, std::string& text,
                  ValueText value_text) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (i == 0 || labels[i].key != labels[i - 1].key) {
      AppendPadded(lines.emplace_back(), report.view.Text(labels[i].key), 10);
      lines.back() += ":  ";
    } else {
      lines.back() += ' ';
    }
    lines.back() += value_text(labels[i]);
  }
  // Padding makes this another order than that of the keys, and pprof's lines have their newline when it
  // sorts them.
  for (std::string& line : lines) line += '\n';
  std::ranges::sort(lines);
  for (const std::string& line : lines) text += line;
}

}  // namespace

void WriteTraces(const ReportData& report, std::string& text) {
  const std::vector<std::string> labels = ProfileLabels(report);
  for (const std::string& label : labels) text.append(label).push_back('\n');
  if (labels.empty()) text += '\n';  // pprof's head is a line at least
  const auto nodes_of_location = graph::NodesOfLocations(report.view);
  std::vector<std::vector<std::string>> names(nodes_of_location.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const auto& nodes = nodes_of_location[i];
    for (size_t n = 0; n < nodes.size(); ++n) {
      names[i].push_back(graph::PrintableName(report.view, nodes[n]));
      if (n + 1 != nodes.size()) names[i].back() += " (inline)";
    }
  }

  for (const graph::Sample& sample : report.view.samples) {
    if (sample.locations.empty()) continue;
    text += kSeparator;
    AppendLabels(report, sample.text_labels, text,
                 [&](const graph::TextLabel& label) { return report.view.Text(label.value); });
    AppendLabels(report, sample.num_labels, text, [&](const graph::NumLabel& label) {
      return ScaledLabel(label.value, report.view.Text(report.label_units.at(label.key)), "auto");
    });
    int64_t value = report.ValueOf(sample);
    if (report.options.mean && sample.values[0] != 0) value = WrappingDivide(value, sample.values[0]);
    std::string value_text = report.Format(value);
    for (const uint32_t location : sample.locations) {
      for (const std::string& name : names[location]) {
        AppendPadded(text, value_text, 10);
        text.append("   ").append(name).push_back('\n');
        value_text.clear();
      }
    }
  }
  text += kSeparator;
}

}  // namespace profagent
