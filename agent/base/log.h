// The agent's words to the user: one line on descriptor 2, `profagent: ` in front, in one write.
//
// Context:   every one but `signal`; in `signal` only where the line replaces a lost profile.
// Whose:     the program's standard error, as it was when the agent started. A program that closed descriptor 2 may have a
//            file, a socket or a database of its own under that number: such a line would be written into it. Another
//            file is written to only when it is a log beyond doubt: regular, open for appending, and inherited by what
//            the program runs, as a daemon leaves it there.
// When fd 2 is closed, full, or not to be written to: the line is lost, the program is not. It sends no signal either.
#pragma once

#include "agent/base/text.h"

namespace profagent {

enum class Verbosity : uint8_t { kErrors = 0, kFiles = 1, kDebug = 2 };

// PROFAGENT_VERBOSE. Written once at start, before any other thread can exist.
extern constinit Verbosity g_verbosity;

void WriteLogLine(std::string_view line);  // cut at 1 KiB

// `bootstrap`: what is descriptor 2 now is where lines go from here on. Before, and in a process that never calls this,
// they go to whatever it is.
void RememberStandardError();

template <class... Parts>
void Log(Verbosity level, const Parts&... parts) {
  if (level > g_verbosity) return;
  FixedText<1024> line;
  line.Add(parts...);
  WriteLogLine(line.view());
}

}  // namespace profagent
