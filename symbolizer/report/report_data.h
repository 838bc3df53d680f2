// What the reports share once the profile is filtered: values to text, header lines, the trimmed graph.
//
// Context: `offline`, inside symbolizer/report.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "symbolizer/graph/graph.h"
#include "symbolizer/graph/view.h"
#include "symbolizer/report/options.h"

namespace profagent {

struct ReportData {
  graph::View view;
  ReportOptions options;  // with what the kind of report overrides
  size_t sample_index = 0;
  int64_t total = 0;
  std::string sample_type;  // "cpu", "mean_delay"
  std::string sample_unit;
  std::string output_unit;
  std::vector<std::string> active_filters;
  std::map<graph::StringId, graph::StringId> label_units;  // of each numeric label's key

  std::string Format(int64_t value) const;
  int64_t ValueOf(const graph::Sample& sample) const { return sample.values[sample_index]; }
};

// File, Build ID, comments, Type, Time, Duration.
std::vector<std::string> ProfileLabels(const ReportData& report);

struct TrimmedGraph {
  graph::Graph graph;
  size_t count_before_limit = 0;  // nodes that were heavy enough
  size_t dropped_nodes = 0;       // nodes that were not
};

// Built, trimmed and sorted as the options say. Picks the output unit too, by what is left.
TrimmedGraph MakeTrimmedGraph(ReportData& report);

// ProfileLabels, the filters, and what is shown and was dropped.
std::vector<std::string> GraphLabels(const ReportData& report, const TrimmedGraph& trimmed);

// The reports. Each appends to `text`.
void WriteTop(ReportData& report, std::string& text);
void WriteTraces(const ReportData& report, std::string& text);
void WriteRaw(const ReportData& report, std::string& text);

}  // namespace profagent
