// What a report is asked for: pprof's configuration variables, with pprof's names and defaults.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <string>

namespace profagent {

enum class ReportKind : uint8_t { kTop, kTraces, kRaw };
enum class ReportSort : uint8_t { kFlat, kCum };
enum class Granularity : uint8_t { kFunctions, kFileFunctions, kFiles, kLines, kAddresses };

struct ReportOptions {
  ReportKind kind = ReportKind::kTop;

  // What is shown.
  std::string sample_index = {};  // a number, a sample type's name, or "": the profile's default
  bool mean = false;              // average over the first sample type
  std::string unit = "minimum";
  double divide_by = 1;
  bool compact_labels = false;
  bool relative_percentages = false;  // percentages of what the filters left, not of everything
  ReportSort sort = ReportSort::kFlat;
  Granularity granularity = Granularity::kFunctions;
  bool no_inlines = false;
  std::string trim_path = {};
  std::string source_path = {};

  // How much of it.
  int64_t node_count = -1;  // -1: all
  double node_fraction = 0.005;
  double edge_fraction = 0.001;
  bool trim = true;
  bool drop_negative = false;

  // Which samples, frames and labels: RE2 expressions, "" for none.
  std::string focus = {}, ignore = {}, hide = {}, show = {}, show_from = {}, prune_from = {};
  std::string tag_focus = {}, tag_ignore = {}, tag_show = {}, tag_hide = {};
  std::string tag_root = {}, tag_leaf = {};  // label keys, separated by commas, whose values become frames
};

}  // namespace profagent
