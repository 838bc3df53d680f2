#include "symbolizer/run/run_report.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace profagent {
namespace {

// One write: lines of several processes on one terminal do not mix.
void Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      // The command has made it non-blocking (node), and it is ours, too.
      pollfd writable = {STDERR_FILENO, POLLOUT, 0};
      poll(&writable, 1, -1);
      continue;
    }
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
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
