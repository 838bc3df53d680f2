#include "symbolizer/profile/write_profile.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "agent/base/descriptor_name.h"
#include "agent/base/utf8.h"
#include "symbolizer/profile/gunzip.h"

namespace profagent {
namespace {

int WriteInPlace(std::string_view bytes, const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int failure = WriteBytes(fd, bytes);
  return close(fd) != 0 && failure == 0 ? errno : failure;
}

int WriteBesideAndRename(std::string_view bytes, const std::string& path, unsigned mode) {
  // Not the name and something more: the name may be as long as names can be.
  std::string temporary = path.substr(0, path.rfind('/') + 1) + ".profagent.XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return errno;
  int failure = WriteBytes(fd, bytes);
  if (failure == 0 && fchmod(fd, mode) != 0) failure = errno;
  if (close(fd) != 0 && failure == 0) failure = errno;
  if (failure == 0 && rename(temporary.c_str(), path.c_str()) != 0) failure = errno;
  if (failure != 0) unlink(temporary.c_str());
  return failure;
}

}  // namespace

int WriteBytes(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {  // a descriptor that somebody else has made non-blocking
      pollfd writable = {fd, POLLOUT, 0};
      poll(&writable, 1, -1);
      continue;
    }
    if (n < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

Status WriteWholeFile(std::string_view bytes, const std::string& path, unsigned mode) {
  struct stat status {};
  int failure = 0;
  if (const int fd = DescriptorNamedBy(path); fd >= 0) {
    failure = WriteBytes(fd, bytes);
  } else if (stat(path.c_str(), &status) != 0) {
    failure = WriteBesideAndRename(bytes, path, mode);
  } else if (S_ISDIR(status.st_mode)) {
    failure = EISDIR;
  } else if (!S_ISREG(status.st_mode)) {
    failure = WriteInPlace(bytes, path);
  } else {
    char target[PATH_MAX];
    failure = realpath(path.c_str(), target) == nullptr ? errno : WriteBesideAndRename(bytes, target, mode);
  }
  if (failure != 0)
    return ErrorAbout(path, FixedText<128>().Add("cannot write: ", std::strerror(failure)).view(), failure);
  return Done{};
}

// Names of files and functions in debug information are any bytes. proto3's readers refuse a whole profile for one
// that is no UTF-8; ours, and Go's, do not.
std::string EncodeProfile(const Profile& profile) {
  const auto& texts = profile.string_table();
  const bool valid = std::all_of(texts.begin(), texts.end(), [](const std::string& text) {
    return ValidUtf8Prefix(text) == text.size();
  });
  if (valid) return Gzip(profile.SerializeAsString());
  Profile mended = profile;
  for (std::string& text : *mended.mutable_string_table()) MakeValidUtf8(text);
  return Gzip(mended.SerializeAsString());
}

Status WriteProfile(const Profile& profile, const std::string& path) {
  return WriteWholeFile(EncodeProfile(profile), path, S_IRUSR | S_IWUSR);
}

}  // namespace profagent
