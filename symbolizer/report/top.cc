// -top, -text: one line for each place, heaviest first.
#include "symbolizer/profile/measurement.h"
#include "symbolizer/report/go_text.h"
#include "symbolizer/report/report_data.h"

namespace profagent {
namespace {

// Was this place inlined into the callers that the graph still shows?
std::string_view InlineMark(const graph::Graph& graph, const graph::Node& node) {
  bool inlined = false, called = false;
  for (const uint32_t edge : node.in) (graph.edges[edge].inlined ? inlined : called) = true;
  if (!inlined) return "";
  return called ? " (partial-inline)" : " (inline)";
}

}  // namespace

void WriteTop(ReportData& report, std::string& text) {
  const TrimmedGraph trimmed = MakeTrimmedGraph(report);
  for (const std::string& label : GraphLabels(report, trimmed)) text.append(label).push_back('\n');
  text += "      flat  flat%   sum%        cum   cum%\n";
  int64_t flat_sum = 0;
  for (const uint32_t index : trimmed.graph.shown) {
    const graph::Node& node = trimmed.graph.nodes[index];
    const int64_t flat = node.FlatValue(), cum = node.CumValue();
    flat_sum = WrappingAdd(flat_sum, flat);
    AppendPadded(text, report.Format(flat), 10);
    text.append(" ").append(Percentage(flat, report.total));
    text.append(" ").append(Percentage(flat_sum, report.total)).append(" ");
    AppendPadded(text, report.Format(cum), 10);
    text.append(" ").append(Percentage(cum, report.total));
    text.append("  ").append(node.name).append(InlineMark(trimmed.graph, node)).append("\n");
  }
}

}  // namespace profagent
