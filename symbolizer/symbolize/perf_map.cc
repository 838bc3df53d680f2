#include "symbolizer/symbolize/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>

namespace profagent {
namespace {

constexpr size_t kLongestLine = 64 << 10;

struct FileCloser {
  void operator()(FILE* file) const { fclose(file); }
};
using FileHandle = std::unique_ptr<FILE, FileCloser>;

// Takes a hexadecimal number and the blanks behind it off the line. False: it begins with none.
bool TakeHex(std::string_view* line, uint64_t* value) {
  if (line->starts_with("0x")) line->remove_prefix(2);
  auto [end, error] = std::from_chars(line->data(), line->data() + line->size(), *value, 16);
  if (error != std::errc()) return false;
  line->remove_prefix(static_cast<size_t>(end - line->data()));
  size_t blanks = std::min(line->find_first_not_of(" \t"), line->size());
  line->remove_prefix(blanks);
  return blanks > 0;
}

Result<FileHandle> Open(const std::string& path, PerfMapRules rules) {
  // O_NONBLOCK: a FIFO under that name must not hold us up.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (rules.only_trusted ? O_NOFOLLOW : 0);
  int fd = open(path.c_str(), flags);
  if (fd < 0) return Error::OfKernel(errno, path);
  FileHandle file(fdopen(fd, "r"));
  struct stat status;
  if (file == nullptr || fstat(fd, &status) != 0) return Error::OfKernel(errno, path);
  if (!S_ISREG(status.st_mode)) return Error::Of(path, ": not a regular file");
  if (rules.only_trusted && status.st_uid != 0 && status.st_uid != geteuid())
    return Error::Of(path, ": not used: it is neither root's nor yours");
  if (status.st_mtime < rules.not_before) return Error::Of(path, ": not used: it is older than the process");
  return file;
}

}  // namespace

std::string PerfMapPath(pid_t pid) { return "/tmp/perf-" + std::to_string(pid) + ".map"; }

Result<std::vector<std::string>> ReadPerfMap(const std::string& path, std::span<const uint64_t> addresses,
                                             PerfMapRules rules) {
  Result<FileHandle> file = Open(path, rules);
  if (!file) return file.error();
  std::vector<std::string> names(addresses.size());
  std::vector<char> buffer(kLongestLine);
  bool is_rest = false;  // of a line that was too long
  while (fgets(buffer.data(), static_cast<int>(buffer.size()), file->get()) != nullptr) {
    std::string_view line = buffer.data();
    bool was_rest = is_rest;
    is_rest = !line.ends_with('\n');
    if (was_rest) continue;
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    uint64_t start = 0, size = 0;
    if (!TakeHex(&line, &start) || !TakeHex(&line, &size) || line.empty()) continue;
    auto first = std::lower_bound(addresses.begin(), addresses.end(), start);
    for (auto at = first; at != addresses.end() && *at - start < size; ++at)
      names[static_cast<size_t>(at - addresses.begin())] = line;
  }
  if (ferror(file->get()) != 0) return Error::OfKernel(errno, path);
  return names;
}

}  // namespace profagent
