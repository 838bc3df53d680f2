#include "symbolizer/report/report_data.h"

#include "symbolizer/graph/paths.h"
#include "symbolizer/profile/measurement.h"
#include "symbolizer/report/go_text.h"

namespace profagent {
namespace {

double Ratio(const ReportOptions& options) { return 1 / options.divide_by; }

int64_t Divided(int64_t value, double ratio) {
  return ratio > 0 && ratio != 1 ? GoInt64(static_cast<double>(value) * ratio) : value;
}

graph::Graph Build(ReportData& report, const graph::NodeSet* kept) {
  graph::View& view = report.view;
  const ReportOptions& options = report.options;
  for (graph::Function& function : view.functions) {
    const std::string& file = view.Text(function.file);
    const std::string_view trimmed = graph::TrimSourcePath(file, options.trim_path, options.source_path);
    if (trimmed.size() != file.size()) function.file = view.strings->Intern(trimmed);
  }
  return graph::BuildGraph(view, {.sample_index = report.sample_index,
                                  .mean = options.mean,
                                  .drop_negative = options.drop_negative,
                                  .kept = kept});
}

// The unit in which the smallest value can still be told from 0, if it is not that much smaller than the
// total.
void SelectOutputUnit(ReportData& report, const graph::Graph& graph) {
  if (report.output_unit != "minimum" || graph.shown.empty()) return;
  int64_t smallest = 0;
  for (const uint32_t index : graph.shown) {
    const graph::Node& node = graph.nodes[index];
    int64_t value = WrappingAbs(node.FlatValue());
    if (value == 0) value = WrappingAbs(node.CumValue());
    if (value > 0 && (smallest == 0 || value < smallest)) smallest = value;
  }
  int64_t largest = report.total;
  if (smallest == 0) smallest = largest;
  smallest = Divided(smallest, Ratio(report.options));
  largest = Divided(largest, Ratio(report.options));

  const std::string_view smallest_unit = Scale(smallest, report.sample_unit, "minimum").unit;
  const std::string_view largest_unit = Scale(largest, report.sample_unit, "minimum").unit;
  std::string_view unit = smallest_unit;
  const int64_t hundredfold = WrappingMultiply(smallest, 100);
  if (smallest_unit != largest_unit && hundredfold < largest) {
    unit = Scale(hundredfold, report.sample_unit, "minimum").unit;  // the smallest may be shown as 0.01 of it
  }
  report.output_unit = unit.empty() ? report.sample_unit : std::string(unit);
}

int64_t Cutoff(int64_t total, double fraction) {
  return WrappingAbs(GoInt64(static_cast<double>(total) * fraction));
}

}  // namespace

std::string ReportData::Format(int64_t value) const {
  return ScaledLabel(Divided(value, Ratio(options)), sample_unit, output_unit);
}

std::vector<std::string> ProfileLabels(const ReportData& report) {
  const graph::View& view = report.view;
  std::vector<std::string> labels;
  if (!view.mappings.empty()) {
    const graph::Mapping& program = view.mappings.front();
    if (program.file != graph::kEmpty)
      labels.push_back("File: " + std::string(graph::BaseName(view.Text(program.file))));
    if (program.build_id != graph::kEmpty) labels.push_back("Build ID: " + view.Text(program.build_id));
  }
  for (const graph::StringId comment : view.comments)
    if (!view.Text(comment).starts_with('#')) labels.push_back(view.Text(comment));
  if (!report.sample_type.empty()) labels.push_back("Type: " + report.sample_type);
  if (view.time_nanos != 0) labels.push_back("Time: " + HeaderTime(view.time_nanos));
  if (view.duration_nanos != 0) {
    const Measurement total = Scale(report.total, report.sample_unit, "nanoseconds");
    std::string share;
    if (total.unit == "ns" && total.value != 0)
      share = "(" + Percentage(GoInt64(total.value), view.duration_nanos) + ")";
    labels.push_back("Duration: " + ScaledLabel(view.duration_nanos, "nanoseconds", "auto") +
                     ", Total samples = " + report.Format(report.total) + " " + share);
  }
  return labels;
}

TrimmedGraph MakeTrimmedGraph(ReportData& report) {
  const ReportOptions& options = report.options;
  const bool by_cum = options.sort == ReportSort::kCum;
  TrimmedGraph trimmed;
  graph::Graph& graph = trimmed.graph;

  // The graph is built anew for each choice of nodes: edges over those that are left out come from the
  // samples.
  graph = Build(report, nullptr);
  int64_t flat_total = 0;
  for (const uint32_t node : graph.shown) flat_total = WrappingAdd(flat_total, graph.nodes[node].flat);
  const int64_t node_cutoff = Cutoff(flat_total, options.node_fraction);
  const int64_t edge_cutoff = Cutoff(flat_total, options.edge_fraction);
  if (node_cutoff > 0) {
    const graph::NodeSet kept = graph::NodesAtLeast(graph, node_cutoff);
    if (kept.size() != graph.shown.size()) {
      trimmed.dropped_nodes = graph.shown.size() - kept.size();
      graph = Build(report, &kept);
    }
  }
  trimmed.count_before_limit = graph.shown.size();

  graph::SortNodes(graph, report.view, by_cum);
  if (options.node_count > 0 && graph.shown.size() > static_cast<uint64_t>(options.node_count)) {
    graph.shown.resize(static_cast<size_t>(options.node_count));
    const graph::NodeSet kept = graph::NodesAtLeast(graph, 0);
    graph = Build(report, &kept);
    graph::SortNodes(graph, report.view, by_cum);
  }
  graph::TrimEdges(graph, edge_cutoff);
  SelectOutputUnit(report, graph);
  return trimmed;
}

std::vector<std::string> GraphLabels(const ReportData& report, const TrimmedGraph& trimmed) {
  std::vector<std::string> labels;
  if (!report.options.compact_labels) labels = ProfileLabels(report);
  if (!report.active_filters.empty()) {
    labels.emplace_back("Active filters:");
    constexpr size_t kLongest = 80;  // bytes
    for (const std::string& filter : report.active_filters) {
      std::string& label = labels.emplace_back("   ");
      label.append(filter, 0, kLongest);
      if (filter.size() > kLongest) label += "…";
    }
  }
  int64_t flat_sum = 0;
  for (const uint32_t node : trimmed.graph.shown)
    flat_sum = WrappingAdd(flat_sum, trimmed.graph.nodes[node].FlatValue());
  const std::string share = Percentage(flat_sum, report.total);
  labels.push_back("Showing nodes accounting for " + report.Format(flat_sum) + ", " +
                   std::string(TrimSpace(share)) + " of " + report.Format(report.total) + " total");
  if (report.total == 0) return labels;
  if (const size_t dropped = trimmed.dropped_nodes; dropped > 0) {
    labels.push_back("Dropped " + std::to_string(dropped) + (dropped > 1 ? " nodes" : " node") +
                     " (cum <= " + report.Format(Cutoff(report.total, report.options.node_fraction)) + ")");
  }
  const size_t shown = trimmed.graph.shown.size();
  if (shown > 0 && shown < trimmed.count_before_limit) {
    labels.push_back("Showing top " + std::to_string(shown) + " nodes out of " +
                     std::to_string(trimmed.count_before_limit));
  }
  return labels;
}

}  // namespace profagent
