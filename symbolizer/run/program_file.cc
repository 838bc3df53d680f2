#include "symbolizer/run/program_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace profagent {
namespace {

// 0, or why this file cannot be executed.
int ExecutionError(const std::string& file) {
  struct stat info = {};
  if (stat(file.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (faccessat(AT_FDCWD, file.c_str(), X_OK, AT_EACCESS) != 0) return errno;
  return 0;
}

Error NotRunnable(const std::string& command, int code) {
  Error error;
  if (code == ENOENT || code == ENOTDIR) {
    error = Error::Of(command, ": command not found");
    error.code = ENOENT;
  } else {
    error =
        Error::Of(command, ": cannot be executed: ", code == EISDIR ? "it is a directory" : strerror(code));
    error.code = code;
  }
  return error;
}

}  // namespace

Result<std::string> FindProgram(const std::string& command, const char* path) {
  if (command.empty()) return NotRunnable("''", ENOENT);
  if (command.find('/') != std::string::npos) {
    int code = ExecutionError(command);
    if (code != 0) return NotRunnable(command, code);
    return command;
  }
  // As execvp: a file of this name that may not be executed does not end the search, but is what the user hears of.
  std::string_view rest = path != nullptr ? path : "/bin:/usr/bin";
  int worst = ENOENT;
  for (;;) {
    const size_t colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    std::string file(directory.empty() ? std::string_view(".") : directory);
    file.append("/").append(command);
    int code = ExecutionError(file);
    if (code == 0) return file;
    if (code != ENOENT && code != ENOTDIR && code != EISDIR) worst = code;
    if (colon == std::string_view::npos) return NotRunnable(command, worst);
    rest.remove_prefix(colon + 1);
  }
}

}  // namespace profagent
