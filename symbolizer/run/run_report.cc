#include "symbolizer/run/run_report.h"

#include <unistd.h>

#include "symbolizer/profile/write_profile.h"

namespace profagent {
namespace {

// One write: lines of several processes on one terminal do not mix. The command may have made it non-blocking (node), and it is ours, too.
void Write(std::string_view text) { WriteBytes(STDERR_FILENO, text); }

}  // namespace

RunReport::RunReport(bool quiet) : quiet_(quiet) {}

void RunReport::Problem(const std::string& sentence) {
  ClearProgress();
  Write("profagent: " + sentence + "\n");
}

void RunReport::Line(const std::string& sentence) {
  if (!quiet_) Problem(sentence);
}

void RunReport::Table(std::string_view text) {
  if (quiet_) return;
  ClearProgress();
  Write(text);
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

}  // namespace profagent
