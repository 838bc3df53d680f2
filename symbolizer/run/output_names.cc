#include "symbolizer/run/output_names.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace profagent {
namespace {

namespace fs = std::filesystem;

Error CannotWrite(const std::string& what, int code) {
  Error error = Error::Of("cannot write profiles to ", what, ": ", strerror(code));
  error.code = code;
  return error;
}

// 0, or why no new file can be made there. Tried, not asked: access() knows nothing of quotas, read-only mounts of a
// user namespace or a directory that is gone.
int CreationError(const fs::path& directory) {
  std::string name = (directory / ".profagent-XXXXXX").string();
  int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  unlink(name.c_str());
  return 0;
}

// Regular files beside `pattern` called so, or so and a dot and more; with their inodes. Whoever writes one renames it into
// place, so a new profile is a new inode.
std::set<std::pair<std::string, uint64_t>> FilesNamed(const fs::path& pattern) {
  std::set<std::pair<std::string, uint64_t>> files;
  const std::string name = pattern.filename().string();
  if (name.find('%') != std::string::npos) return files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(pattern.parent_path(), error)) {
    const std::string file = entry.path().filename().string();
    if (file != name && !file.starts_with(name + ".")) continue;
    struct stat info = {};
    if (stat(entry.path().c_str(), &info) == 0 && S_ISREG(info.st_mode))
      files.insert({entry.path().string(), info.st_ino});
  }
  return files;
}

}  // namespace

OutputNames::OutputNames(std::string pattern) : pattern_(std::move(pattern)), before_(FilesNamed(pattern_)) {}

std::vector<std::string> OutputNames::TakeSelfWritten() {
  std::vector<std::string> written;
  for (const auto& file : FilesNamed(pattern_)) {
    if (before_.contains(file) || !given_.insert(file.first).second) continue;
    written.push_back(file.first);
  }
  return written;
}

Result<OutputNames> OutputNames::Prepare(const std::string& wanted) {
  std::error_code error;
  fs::path path = wanted.empty() ? fs::path(kDefaultProfileName) : fs::path(wanted);
  path = fs::absolute(path, error);
  if (error) return CannotWrite(wanted, error.value());
  if (!path.has_filename()) {  // ends with a slash
    fs::create_directories(path, error);
    if (error) return CannotWrite(wanted, error.value());
  }
  if (fs::is_directory(path, error)) path /= kDefaultProfileName;

  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) return CannotWrite(path.string(), EISDIR);
    // A device or a pipe is written to as it is.
    if (faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) return CannotWrite(path.string(), errno);
    return OutputNames(path.string());
  }
  const int code = CreationError(path.parent_path());
  if (code != 0) return CannotWrite(path.parent_path().string(), code);
  return OutputNames(path.string());
}

OutputNames::Expanded OutputNames::Expand(std::string_view program, uint32_t pid) const {
  std::string name;
  bool names_pid = false;
  for (size_t i = 0; i < pattern_.size(); ++i) {
    const char kind = pattern_[i] == '%' && i + 1 < pattern_.size() ? pattern_[i + 1] : '\0';
    if (kind == 'p') {
      name += std::to_string(pid);
      names_pid = true;
    } else if (kind == 'e') {
      name += program;
    } else if (kind == '%') {
      name += '%';
    } else {
      name += pattern_[i];
      continue;
    }
    ++i;
  }
  return {name, names_pid};
}

std::string OutputNames::Plain(std::string_view program, uint32_t pid) const {
  return Expand(program, pid).name;
}

std::string OutputNames::Next(std::string_view program, uint32_t pid, bool plain) {
  auto [name, names_pid] = Expand(program, pid);
  if (!plain && !names_pid) name.append(".").append(program).append(".").append(std::to_string(pid));
  std::string unused = name;
  for (int i = 2; !given_.insert(unused).second; ++i) unused = name + "." + std::to_string(i);
  return unused;
}

}  // namespace profagent
