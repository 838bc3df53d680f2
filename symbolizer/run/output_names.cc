#include "symbolizer/run/output_names.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <utility>

#include "agent/base/descriptor_name.h"
#include "agent/base/profile_names.h"

namespace profagent {
namespace {

namespace fs = std::filesystem;

// Long paths are shown by their end, so that the reason behind them is never cut off.
Error CannotWrite(const std::string& what, int code) {
  constexpr size_t kMost = 150;
  const bool is_long = what.size() > kMost;
  Error error = Error::Of("cannot write profiles to ", is_long ? "..." : "",
                          is_long ? what.substr(what.size() - kMost) : what, ": ", strerror(code));
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

// "x.prof", "heap": "x.heap.prof"
fs::path WithKind(const fs::path& path, std::string_view kind) {
  std::string name = path.string();
  name.insert(name.size() - ExtensionOf(name).size(), "." + std::string(kind));
  return name;
}

// Of several kinds, the one that is meant when a single name was given; nullptr: none is.
const ProfileKind* KindOfPlainName(std::span<const ProfileKind> kinds) {
  if (kinds.empty()) return nullptr;
  // A heap comes as two, the peak after it. The CPU profile is the first of all.
  const bool single = kinds.size() == 1 || (kinds.size() == 2 && kinds[1] == ProfileKind::kHeapPeak);
  return single || kinds.front() == ProfileKind::kCpu ? kinds.data() : nullptr;
}

// As a pattern that stands for just this path: only the name at its end may hold %p and its like.
std::string Escaped(const std::string& path) {
  std::string pattern;
  for (const char letter : path) pattern.append(letter == '%' ? 2 : 1, letter);
  return pattern;
}

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// ".PROGRAM.PID"
bool IsProcessSuffix(std::string_view text) {
  const size_t dot = text.rfind('.');
  return text.starts_with('.') && dot != 0 && dot > 1 && IsNumber(text.substr(dot + 1));
}

std::string Numbered(const std::string& name, uint32_t number) {
  return number == 1 ? name : name + "." + std::to_string(number);
}

// Somebody else's file in a directory like /tmp, which can be neither replaced nor removed. Asked, not tried: what is there
// would be lost.
bool IsHeldByAnother(const fs::path& path, const struct stat& file) {
  std::error_code error;
  const fs::path target = fs::canonical(path, error);  // where a link leads, as it is written
  struct stat directory = {};
  const uid_t user = geteuid();
  return user != 0 && !error && stat(target.parent_path().c_str(), &directory) == 0 &&
         (directory.st_mode & S_ISVTX) != 0 && directory.st_uid != user && file.st_uid != user;
}

// What can be said against it before anything was run; 0: nothing.
int WhyNotWritable(const fs::path& path, bool* is_device) {
  if (const int fd = DescriptorNamedBy(path.native()); fd >= 0) {
    *is_device = true;
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY ? 0 : EBADF;
  }
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) return EISDIR;
    // A device or a pipe is written to as it is.
    *is_device = true;
    return faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0 ? 0 : errno;
  }
  return IsHeldByAnother(path, info) ? EPERM : 0;
}

}  // namespace

std::string ProcessSuffix(std::string_view program, uint32_t pid) {
  return "." + std::string(program) + "." + std::to_string(pid);
}

OutputNames::OutputNames(std::string directory, std::map<ProfileKind, std::string> patterns, bool is_device)
    : directory_(std::move(directory)),
      patterns_(std::move(patterns)),
      is_device_(is_device),
      before_(FilesBeside()) {
  clock_gettime(CLOCK_REALTIME_COARSE, &prepared_);  // as files' times are read
}

const ProfileKind* OutputNames::KindOf(const std::string& file) const {
  const ProfileKind* kind = nullptr;
  // Of the patterns that fit: with NAME "x", x.heap.app.7 is a heap profile and no program "heap.app".
  size_t longest = 0;
  for (const auto& [known, pattern] : patterns_) {
    const std::string name = pattern.substr(Escaped(directory_).size());
    if (name.find('%') != std::string::npos || !file.starts_with(directory_ + name) || name.size() < longest)
      continue;
    const std::string_view rest = std::string_view(file).substr(directory_.size() + name.size());
    if (!rest.empty() && !IsProcessSuffix(rest)) continue;
    kind = &known;
    longest = name.size();
  }
  return kind;
}

OutputNames::Files OutputNames::FilesBeside() const {
  Files files;
  if (is_device_ || patterns_.empty()) return files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, error)) {
    const std::string file = entry.path().string();
    struct stat info = {};
    if (KindOf(file) != nullptr && stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode))
      files.insert({file, info.st_ino});
  }
  return files;
}

std::vector<OutputNames::SelfWritten> OutputNames::TakeSelfWritten(const std::set<std::string>& recorded) {
  std::vector<SelfWritten> written;
  const Files now = FilesBeside();
  auto is_new = [&](const std::string& file) {
    const auto found = now.lower_bound({file, 0});
    return found != now.end() && found->first == file && !before_.contains(*found);
  };
  // A dump's name is that of its process and a number.
  auto is_dump = [&](const std::string& file) {
    const std::string process = file.substr(0, file.rfind('.'));
    if (KindOf(process) == nullptr) return false;
    if (is_new(process)) return true;
    return std::ranges::any_of(recorded,
                               [&](const std::string& suffix) { return process.ends_with(suffix); });
  };
  for (const auto& [file, inode] : now) {
    if (!is_new(file) || is_dump(file) || !given_.insert(file).second) continue;
    written.push_back({*KindOf(file), file});
  }
  return written;
}

Result<OutputNames> OutputNames::Prepare(const std::string& wanted, std::span<const ProfileKind> kinds) {
  std::error_code error;
  fs::path path = wanted.empty() ? fs::current_path(error) : fs::absolute(wanted, error);
  if (error) return CannotWrite(wanted.empty() ? "the current directory" : wanted, error.value());
  if (!path.has_filename()) {  // ends with a slash
    fs::create_directories(path, error);
    if (error) return CannotWrite(wanted, error.value());
  }
  const bool is_directory = fs::is_directory(path, error);
  bool is_device = false;
  if (!is_directory) {
    if (const int code = WhyNotWritable(path, &is_device); code != 0) return CannotWrite(path.string(), code);
  }
  const fs::path directory = (is_directory ? path / "file" : path).parent_path();
  const std::string beside = (directory / "").string();
  const ProfileKind* plain = KindOfPlainName(kinds);
  std::map<ProfileKind, std::string> patterns;
  for (const ProfileKind& kind : kinds) {
    const std::string_view name = RunKindOf(kind).name;
    const bool keeps_name = is_device || &kind == plain;
    const fs::path file = is_directory ? path / (std::string(name) + ".prof")
                          : keeps_name ? path
                                       : WithKind(path, name);
    bool ignored = false;
    if (const int code = WhyNotWritable(file, &ignored); code != 0) return CannotWrite(file.string(), code);
    patterns[kind] = is_device ? Escaped(file.string()) : Escaped(beside) + file.filename().string();
  }
  if (!is_device) {
    if (const int code = CreationError(directory); code != 0) return CannotWrite(directory.string(), code);
  }
  return OutputNames(beside, std::move(patterns), is_device);
}

std::string OutputNames::Expand(ProfileKind kind, const ImageName& image, bool plain,
                                uint32_t dump_number) const {
  const bool as_it_is = plain || is_device_;
  const WrittenAt when = image.became_another && !as_it_is ? WrittenAt::kExec : WrittenAt::kEnd;
  FixedText<2 * kMaxPath> name;  // what is cut there is too long for the kernel, too
  AddProfilePath(patterns_.at(kind), {image.program, image.pid, as_it_is}, when, dump_number, &name);
  return std::string(name.view());
}

// The dumps were the process's to number: its files that are younger than the run.
std::string OutputNames::NameOf(ProfileKind kind, const ImageName& image, bool plain) const {
  constexpr uint32_t kMostDumps = 100'000;
  const auto is_new = [&](const std::string& file) {
    struct stat info = {};
    return stat(file.c_str(), &info) == 0 && std::tie(info.st_mtim.tv_sec, info.st_mtim.tv_nsec) >=
                                                 std::tie(prepared_.tv_sec, prepared_.tv_nsec);
  };
  for (uint32_t number = 1;; ++number) {
    std::string name = Expand(kind, image, plain, number);
    if (!NamesTheDump(patterns_.at(kind)) || number == kMostDumps) return name;
    if (std::ranges::none_of(patterns_, [&](const auto& pattern) {
          return is_new(Expand(pattern.first, image, plain, number));
        }))
      return name;
  }
}

std::string OutputNames::Plain(ProfileKind kind, std::string_view program, uint32_t pid) const {
  return NameOf(kind, {program, pid}, true);
}

// The same for all kinds: not every image has all of them, and the heap of one image must not be called like the peak of
// another.
uint32_t OutputNames::NumberOf(const ImageName& image) {
  const auto [number, is_new] = numbers_.try_emplace({image.pid, image.serial}, 1);
  const auto is_given = [&](uint32_t candidate) {
    return std::ranges::any_of(patterns_, [&](const auto& pattern) {
      return given_.contains(Numbered(NameOf(pattern.first, image, false), candidate));
    });
  };
  while (is_new && is_given(number->second)) ++number->second;
  return number->second;
}

std::string OutputNames::Next(ProfileKind kind, const ImageName& image, bool plain) {
  std::string name = NameOf(kind, image, plain);
  if (is_device_) return name;
  std::string unused;
  for (uint32_t number = plain ? 1 : NumberOf(image);; ++number) {
    unused = Numbered(name, number);
    if (given_.insert(unused).second) return unused;
  }
}

}  // namespace profagent
