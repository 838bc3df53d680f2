// The agent's words to the user: one line on descriptor 2, `profagent: ` in front, in one write.
//
// Context:   every one but `signal`; in `signal` only where the line replaces a lost profile.
// When fd 2 is closed or full: the line is lost, the program is not.
#pragma once

#include "agent/base/text.h"

namespace profagent {

enum class Verbosity : uint8_t { kErrors = 0, kFiles = 1, kDebug = 2 };

// PROFAGENT_VERBOSE. Written once at start, before any other thread can exist.
extern constinit Verbosity g_verbosity;

void WriteLogLine(std::string_view line);  // cut at 1 KiB

template <class... Parts>
void Log(Verbosity level, const Parts&... parts) {
  if (level > g_verbosity) return;
  FixedText<1024> line;
  line.Add(parts...);
  WriteLogLine(line.view());
}

}  // namespace profagent
