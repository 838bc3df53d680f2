#include "symbolizer/cli/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace profagent {

void PrepareStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // open takes the lowest free number, which is this one.
    if (open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC) != fd) return;
  }
}

Result<std::string> OutputFile(const std::string& name) {
  if (name.empty()) return Error::Of("--output: the name is empty");
  const std::string file = name == "-" ? "/dev/stdout" : name;
  if (file == "/dev/stdout" && isatty(STDOUT_FILENO) != 0) {
    return Error::Of("the profile is not written to a terminal: name a file, or send it to a command");
  }
  return file;
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
