#include "symbolizer/symbolize/binaries.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

namespace profagent {
namespace {

constexpr char kSystemDebugDirectory[] = "/usr/lib/debug";
constexpr std::string_view kDeleted = " (deleted)";

void Note(std::string* problem, const std::string& text) {
  if (problem->find(text) != std::string::npos) return;
  if (!problem->empty()) *problem += "; ";
  *problem += text;
}

std::string Directory(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string BaseName(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string WithoutDeleted(const std::string& recorded) {
  return recorded.ends_with(kDeleted) ? recorded.substr(0, recorded.size() - kDeleted.size()) : recorded;
}

std::string RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) != nullptr ? resolved : path;
}

// The agent keeps the first 32 bytes of a longer build-id.
bool IsSameBuildId(const std::string& of_file, const std::string& recorded) {
  constexpr size_t kMostDigits = 64;
  return of_file == recorded || (recorded.size() == kMostDigits && of_file.starts_with(recorded));
}

// Opens a file that has the build-id; what is wrong with one that is there goes to `problem`.
std::unique_ptr<ElfFile> OpenIfSame(const std::string& path, const std::string& build_id,
                                    std::string* problem) {
  Result<std::unique_ptr<ElfFile>> file = ElfFile::Open(path);
  if (!file) {
    if (file.error().code != ENOENT && file.error().code != ENOTDIR) {
      Note(problem, std::string(file.error().text.view()));
    }
    return nullptr;
  }
  if (!build_id.empty() && !IsSameBuildId((*file)->build_id(), build_id)) {
    std::string has = (*file)->build_id().empty() ? "none" : (*file)->build_id();
    Note(problem, path + ": not used: its build-id is " + has + ", the profile's is " + build_id);
    return nullptr;
  }
  return std::move(*file);
}

// The checksum of .gnu_debuglink: the same polynomial and order as gzip's.
uint32_t ChecksumOf(int fd) {
  std::vector<unsigned char> buffer(1 << 20);
  uLong sum = crc32(0, nullptr, 0);
  off_t at = 0;
  ssize_t got;
  while ((got = pread(fd, buffer.data(), buffer.size(), at)) > 0) {
    sum = crc32(sum, buffer.data(), static_cast<uInt>(got));
    at += got;
  }
  return static_cast<uint32_t>(sum);
}

bool IsBuildId(const std::string& text) {
  return text.size() >= 4 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Mappings without a file: code made at run time, memory shared without a name, the kernel's own.
bool NamesNoFile(const std::string& path) {
  for (std::string_view prefix :
       {"[", "//anon", "/memfd:", "/dev/zero", "/anon_hugepage", "anon_inode:", "/SYSV"}) {
    if (path.starts_with(prefix)) return true;
  }
  return path.empty();
}

}  // namespace

// elfutils' client, loaded only when the user asked for it by setting DEBUGINFOD_URLS: the command must run
// where the library is not installed. It caches in the user's cache directory, and serves http, https and
// file URLs.
class BinaryFinder::Debuginfod {
 public:
  Debuginfod() {
    library_ = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) return;
    auto begin = reinterpret_cast<void* (*)()>(dlsym(library_, "debuginfod_begin"));
    end_ = reinterpret_cast<void (*)(void*)>(dlsym(library_, "debuginfod_end"));
    find_ = reinterpret_cast<FindFunction>(dlsym(library_, "debuginfod_find_debuginfo"));
    if (begin != nullptr && end_ != nullptr && find_ != nullptr) client_ = begin();
  }
  ~Debuginfod() {
    if (client_ != nullptr) end_(client_);
    // The library stays: libcurl inside it does not like to be unloaded.
  }

  std::unique_ptr<ElfFile> Find(const std::string& build_id, std::string* problem) const {
    if (client_ == nullptr) {
      Note(problem, "DEBUGINFOD_URLS is set, but libdebuginfod.so.1 cannot be loaded");
      return nullptr;
    }
    int fd = find_(client_, reinterpret_cast<const unsigned char*>(build_id.c_str()), 0, nullptr);
    if (fd < 0) {
      if (fd != -ENOENT) Note(problem, std::string("debuginfod: ") + strerror(-fd));
      return nullptr;
    }
    Result<std::unique_ptr<ElfFile>> file = ElfFile::FromDescriptor(fd, "debuginfod:" + build_id);
    if (!file) {
      Note(problem, std::string(file.error().text.view()));
      return nullptr;
    }
    return std::move(*file);
  }

 private:
  using FindFunction = int (*)(void*, const unsigned char*, int, char**);
  void* library_ = nullptr;
  void* client_ = nullptr;
  void (*end_)(void*) = nullptr;
  FindFunction find_ = nullptr;
};

BinaryFinder::BinaryFinder(std::vector<std::string> debug_path, bool use_debuginfod)
    : directories_(std::move(debug_path)) {
  std::erase(directories_, std::string());
  directories_.push_back(kSystemDebugDirectory);
  if (use_debuginfod) debuginfod_ = std::make_unique<Debuginfod>();
}

BinaryFinder::~BinaryFinder() = default;

Binary BinaryFinder::Find(const std::string& path, const std::string& build_id) const {
  Binary binary;
  if (path == "[vdso]" || BaseName(path).starts_with("linux-vdso.so")) {
    Result<std::unique_ptr<ElfFile>> vdso = ElfFile::OpenVdso();
    if (!vdso) {
      binary.problem = vdso.error().text.view();
    } else if (!build_id.empty() && (*vdso)->build_id() != build_id) {
      binary.problem = "[vdso]: the profile is of another kernel than the one that runs here";
    } else {
      binary.file = std::move(*vdso);
    }
  } else if (NamesNoFile(path)) {
    binary.problem = "code that is in no file (made while the program ran)";
    return binary;
  } else {
    binary.file = FindFile(path, build_id, &binary.problem);
  }
  if (binary.file != nullptr && binary.file->HasDebugInfo()) {
    binary.alternate = FindAlternate(*binary.file, &binary.problem);
    return binary;
  }
  const std::string& id = binary.file != nullptr ? binary.file->build_id() : build_id;
  if (IsBuildId(id)) binary.debug = FindByBuildId(id, &binary.problem);
  if (binary.debug == nullptr && binary.file != nullptr) {
    binary.debug = FindByLink(*binary.file, &binary.problem);
  }
  if (binary.debug == nullptr && binary.file != nullptr && IsBuildId(id)) {
    binary.debug = FindUnstripped(path, *binary.file, &binary.problem);
  }
  if (binary.debug == nullptr && debuginfod_ != nullptr && IsBuildId(id)) {
    binary.debug = debuginfod_->Find(id, &binary.problem);
  }
  if (binary.debug != nullptr) binary.alternate = FindAlternate(*binary.debug, &binary.problem);
  return binary;
}

std::vector<std::string> BinaryFinder::InUsersDirectories(const std::string& recorded) const {
  const std::string path = WithoutDeleted(recorded);
  std::vector<std::string> candidates;
  for (const std::string& directory : directories_) {
    if (directory == kSystemDebugDirectory) continue;
    candidates.push_back(directory);
    candidates.back().append("/").append(path);
    candidates.push_back(directory);
    candidates.back().append("/").append(BaseName(path));
  }
  return candidates;
}

std::unique_ptr<ElfFile> BinaryFinder::FindFile(const std::string& recorded, const std::string& build_id,
                                                std::string* problem) const {
  const bool deleted = recorded.ends_with(kDeleted);
  std::string mismatch;
  std::vector<std::string> candidates = InUsersDirectories(recorded);
  candidates.insert(candidates.begin(), WithoutDeleted(recorded));
  for (const std::string& candidate : candidates) {
    // Without a build-id a file that took a deleted one's place cannot be told from it.
    if (deleted && build_id.empty()) continue;
    if (auto file = OpenIfSame(candidate, build_id, &mismatch)) return file;
  }
  if (mismatch.empty()) {
    mismatch = deleted ? recorded + ": the file was deleted while it ran" : recorded + ": No such file";
  }
  Note(problem, mismatch);
  return nullptr;
}

std::unique_ptr<ElfFile> BinaryFinder::FindByBuildId(const std::string& build_id,
                                                     std::string* problem) const {
  std::string name = "/.build-id/" + build_id.substr(0, 2) + "/" + build_id.substr(2) + ".debug";
  for (const std::string& directory : directories_) {
    if (auto file = OpenIfSame(directory + name, build_id, problem)) return file;
  }
  return nullptr;
}

std::unique_ptr<ElfFile> BinaryFinder::FindByLink(const ElfFile& file, std::string* problem) const {
  std::optional<DebugLink> link = file.debug_link();
  if (!link) return nullptr;
  std::string real = RealPath(file.path());
  std::string directory = Directory(real);
  std::vector<std::string> candidates = {directory + "/" + link->name, directory + "/.debug/" + link->name};
  for (const std::string& debug : directories_) candidates.push_back(debug + directory + "/" + link->name);
  for (const std::string& candidate : candidates) {
    if (RealPath(candidate) == real) continue;  // a link that names its own file
    auto found = OpenIfSame(candidate, file.build_id(), problem);
    if (found == nullptr) continue;
    if (file.build_id().empty() && ChecksumOf(found->fd()) != link->crc) {
      Note(problem, candidate + ": not used: it is not the file that .gnu_debuglink means (checksum)");
      continue;
    }
    return found;
  }
  return nullptr;
}

std::unique_ptr<ElfFile> BinaryFinder::FindUnstripped(const std::string& recorded, const ElfFile& file,
                                                      std::string* problem) const {
  for (const std::string& candidate : InUsersDirectories(recorded)) {
    if (RealPath(candidate) == RealPath(file.path())) continue;
    auto found = OpenIfSame(candidate, file.build_id(), problem);
    if (found != nullptr && (found->HasDebugInfo() || found->HasSection(".symtab"))) return found;
  }
  return nullptr;
}

// dwz moves what many debug files have in common into one more file, named relative to the file that uses it.
std::unique_ptr<ElfFile> BinaryFinder::FindAlternate(const ElfFile& file, std::string* problem) const {
  std::optional<DebugLink> link = file.debug_alt_link();
  if (!link) return nullptr;
  std::vector<std::string> candidates;
  if (link->name.starts_with('/')) {
    candidates.push_back(link->name);
  } else {
    candidates.push_back(Directory(RealPath(file.path())) + "/" + link->name);
    for (const std::string& directory : directories_) {
      candidates.push_back(directory + "/.dwz/" + BaseName(link->name));
    }
  }
  std::string mismatch;
  for (const std::string& candidate : candidates) {
    if (auto found = OpenIfSame(candidate, link->build_id, &mismatch)) return found;
  }
  if (IsBuildId(link->build_id)) {
    if (auto found = FindByBuildId(link->build_id, &mismatch)) return found;
    if (debuginfod_ != nullptr) {
      if (auto found = debuginfod_->Find(link->build_id, &mismatch)) return found;
    }
  }
  Note(problem, mismatch.empty() ? link->name + ": No such file (.gnu_debugaltlink): some names are missing"
                                 : mismatch);
  return nullptr;
}

}  // namespace profagent
