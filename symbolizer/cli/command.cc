#include "symbolizer/cli/command.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace profagent {

void PrepareStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // open takes the lowest free number, which is this one.
    if (open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC) != fd) return;
  }
}

bool StandardOutputIsWritten() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
  PrintError(std::string("cannot write to standard output: ") + std::strerror(errno));
  return false;
}

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
