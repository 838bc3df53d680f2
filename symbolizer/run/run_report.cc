#include "symbolizer/run/run_report.h"

#include <unistd.h>

#include "symbolizer/profile/write_profile.h"

namespace profagent {
namespace {

// One write: lines of several processes on one terminal do not mix. The command may have made it non-blocking (node), and it is ours, too.
void Write(std::string_view text) { WriteBytes(STDERR_FILENO, text); }

// Programs, threads, functions and files were named by others: no byte of theirs drives the terminal. `lines`: ends of lines are meant.
std::string Harmless(std::string_view words, bool lines = false) {
  std::string text;
  for (char c : words) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || (lines && c == '\n')) {
      text += c;
      continue;
    }
    constexpr const char* kDigits = "0123456789abcdef";
    text += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

}  // namespace

RunReport::RunReport(bool quiet) : quiet_(quiet) {}

void RunReport::Problem(const std::string& sentence) {
  ClearProgress();
  Write("profagent: " + Harmless(sentence) + "\n");
}

void RunReport::Line(const std::string& sentence) {
  if (!quiet_) Problem(sentence);
}

void RunReport::Table(std::string_view text) {
  if (quiet_) return;
  ClearProgress();
  Write(Harmless(text, true));
}

void RunReport::Progress(const std::string& sentence) {
  if (quiet_ || isatty(STDERR_FILENO) == 0) return;
  ClearProgress();
  Write("profagent: " + Harmless(sentence));
  progress_shown_ = true;
}

void RunReport::ClearProgress() {
  if (progress_shown_) Write("\r\033[K");
  progress_shown_ = false;
}

}  // namespace profagent
