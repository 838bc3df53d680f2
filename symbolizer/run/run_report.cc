#include "symbolizer/run/run_report.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "symbolizer/profile/measurement.h"
#include "symbolizer/report/report.h"

namespace profagent {
namespace {

constexpr size_t kMaxFilesNamed = 10;

// One write: lines of several processes on one terminal do not mix.
void Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

// As short as it can be typed: relative when it is below the current directory.
std::string Shown(const std::string& path) {
  char current[4096];
  if (getcwd(current, sizeof current) == nullptr) return path;
  std::string prefix = std::string(current) + "/";
  return path.starts_with(prefix) && path.size() > prefix.size() ? path.substr(prefix.size()) : path;
}

}  // namespace

RunReport::RunReport(bool quiet) : quiet_(quiet) {}

void RunReport::Problem(const std::string& sentence) {
  ClearProgress();
  Write("profagent: " + sentence + "\n");
}

void RunReport::Line(const std::string& sentence) {
  if (!quiet_) Problem(sentence);
}

void RunReport::Progress(const std::string& sentence) {
  if (quiet_ || isatty(STDERR_FILENO) == 0) return;
  ClearProgress();
  Write("profagent: " + sentence);
  progress_shown_ = true;
}

void RunReport::ClearProgress() {
  if (progress_shown_) Write("\r\033[K");
  progress_shown_ = false;
}

void RunReport::Profiles(std::vector<File> files, int lines) {
  if (quiet_ || files.empty()) return;
  const File* heaviest = &*std::max_element(
      files.begin(), files.end(), [](const File& a, const File& b) { return a.cpu_nanos < b.cpu_nanos; });
  const std::string heaviest_path = heaviest->path;

  if (lines > 0 && heaviest->cpu_nanos > 0) {
    ReportOptions options;
    options.node_count = lines;
    Result<ReportText> top = MakeReport(*heaviest->profile, options);
    if (top) {
      if (files.size() > 1)
        Line("the heaviest of " + std::to_string(files.size()) + " profiles, " + heaviest->what + ":");
      Write(top->text);
    } else {
      Problem(std::string(top.error().text.view()));
    }
  } else if (heaviest->cpu_nanos == 0) {
    Line("no samples: the command used less CPU time than one sampling period");
  }

  std::stable_sort(files.begin(), files.end(),
                   [](const File& a, const File& b) { return a.cpu_nanos > b.cpu_nanos; });
  for (size_t i = 0; i < files.size() && i < kMaxFilesNamed; ++i) {
    Line("wrote " + Shown(files[i].path) + ": " + files[i].what + ", " + SecondsText(files[i].cpu_nanos) +
         " of CPU time");
  }
  if (files.size() > kMaxFilesNamed) {
    Line("and " + std::to_string(files.size() - kMaxFilesNamed) + " more beside it");
  }
  if (heaviest->cpu_nanos > 0) {
    const std::string shown = Shown(heaviest_path);
    Line("look further: profagent -top -cum " + shown);
    Line("              profagent -traces " + shown);
    Line("              go tool pprof -http=: " + shown);
  }
}

std::string SecondsText(uint64_t nanos) {
  return nanos == 0 ? "0s" : ScaledLabel(static_cast<int64_t>(nanos), "nanoseconds", "auto");
}

}  // namespace profagent
