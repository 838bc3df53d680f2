#include "symbolizer/cli/command.h"

#include <cstdio>
#include <string>

namespace profagent {

void PrintError(std::string_view sentence) {
  // One write: lines of several processes on one terminal do not mix.
  std::string line = "profagent: ";
  line.append(sentence).push_back('\n');
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void PrintError(const Error& error) { PrintError(error.text.view()); }

void CommandOutcome::Fail(const Error& error, int status) {
  PrintError(error);
  exit_status = status;
}

}  // namespace profagent
