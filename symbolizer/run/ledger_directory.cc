#include "symbolizer/run/ledger_directory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "agent/base/process_stat.h"

namespace profagent {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "profagent-run-";
constexpr std::string_view kSuffix = ".ledger";
constexpr const char* kNamedMark = "named";
// Below this much space a place is passed over: a ledger starts with half a megabyte a process.
constexpr uint64_t kLeastSpace = uint64_t{16} << 20;
// Below this, and half of its size, a place is short of space: a ledger may grow to this (PROFAGENT_MEMORY's default).
constexpr uint64_t kComfortableSpace = uint64_t{256} << 20;
// What processes that ended leave on a tmpfs is memory that nothing but the end of the run gives back, 20 KiB and more of each: beyond
// this it goes to a disk.
constexpr uint64_t kMostKept = uint64_t{16} << 20;
constexpr time_t kLeftOverSeconds = 24 * 60 * 60;
constexpr time_t kEmptyLeftOverSeconds = 60;  // younger: perhaps just made, and not locked yet

// Other users can come to what is in it.
bool IsOpen(const std::string& place) {
  struct stat info = {};
  return stat(place.c_str(), &info) == 0 && (info.st_mode & S_IXOTH) != 0;
}

// Where a ledger directory may stand, best first.
std::vector<std::string> Places() {
  std::vector<std::string> places;
  auto add = [&](const char* place) {
    if (place == nullptr || place[0] != '/') return;
    if (std::find(places.begin(), places.end(), place) == places.end()) places.emplace_back(place);
  };
  add(getenv("XDG_RUNTIME_DIR"));
  add("/dev/shm");
  add(getenv("TMPDIR"));
  add("/tmp");
  if (geteuid() == 0) std::stable_partition(places.begin(), places.end(), IsOpen);
  return places;
}

// Bytes that anybody may still write.
uint64_t SpaceOf(const struct statfs& info) { return info.f_bavail * static_cast<uint64_t>(info.f_bsize); }

bool HasSpace(const std::string& place) {
  struct statfs info = {};
  return statfs(place.c_str(), &info) == 0 && SpaceOf(info) >= kLeastSpace;
}

bool IsShortOfSpace(const std::string& place) {
  struct statfs info = {};
  return statfs(place.c_str(), &info) == 0 && SpaceOf(info) < kComfortableSpace &&
         info.f_bavail < info.f_blocks / 2;
}

uint64_t MemoryOf(const std::string& file) {
  constexpr uint64_t kBlock = 512;
  struct stat info = {};
  return lstat(file.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * kBlock : 0;
}

bool IsOnDisk(const std::string& path) {
  struct statfs info = {};
  if (statfs(path.c_str(), &info) != 0) return false;
  return info.f_type != TMPFS_MAGIC && info.f_type != RAMFS_MAGIC;
}

bool WriteAt(int fd, const char* data, size_t size, off_t at) {
  for (ssize_t done; size > 0; data += done, size -= static_cast<size_t>(done), at += done) {
    done = pwrite(fd, data, size, at);
    if (done <= 0) return false;
  }
  return true;
}

// With its holes: a ledger is long, and mostly empty.
bool CopyData(int from, int to) {
  struct stat info = {};
  if (fstat(from, &info) != 0 || ftruncate(to, info.st_size) != 0) return false;
  std::vector<char> buffer(size_t{64} << 10);
  for (off_t end, at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0; at = end) {
    end = lseek(from, at, SEEK_HOLE);
    for (ssize_t size; at < end; at += size) {
      size = pread(from, buffer.data(), std::min(buffer.size(), static_cast<size_t>(end - at)), at);
      if (size <= 0 || !WriteAt(to, buffer.data(), static_cast<size_t>(size), at)) return false;
    }
  }
  return errno == ENXIO;  // no data behind `at`
}

// False: `to` is not there, and `from` as it was.
bool Move(const std::string& from, const std::string& to) {
  const int source =
      open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);  // no pipe holds us up
  const int target = open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool copied = source >= 0 && target >= 0 && CopyData(source, target);
  if (source >= 0) close(source);
  if (target >= 0) close(target);
  if (target >= 0) unlink((copied ? from : to).c_str());
  return copied;
}

// An open descriptor that holds the lock, or -1: it is not ours or its run is alive.
int LockLeftOver(const fs::path& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  struct stat info = {};
  if (fstat(fd, &info) != 0 || info.st_uid != geteuid() || flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

// A directory in `top` in which every user may make files who knows its name; empty: errno says why there is none.
std::string MakeForAllUsers(const std::string& top) {
  uint64_t secret[2] = {};
  if (getrandom(secret, sizeof secret, 0) != sizeof secret) return {};
  std::ostringstream path;
  path << top << '/' << std::hex << std::setfill('0') << std::setw(16) << secret[0] << std::setw(16)
       << secret[1];
  const bool made = mkdir(path.str().c_str(), 0700) == 0 && chmod(path.str().c_str(), 01733) == 0 &&
                    chmod(top.c_str(), 0711) == 0;
  return made ? path.str() : std::string();
}

// Where the ledgers of a run are that has `top`.
std::string LedgersIn(const fs::path& top) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(top, error)) {
    if (entry.is_directory(error) && !entry.is_symlink(error)) return entry.path().string();
  }
  return top.string();
}

time_t SecondsSinceChange(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 ? time(nullptr) - info.st_mtime : 0;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Of /proc/PID/stat.
struct ProcessStat {
  std::string name;
  uint64_t started = 0;  // ticks since boot; 0: it is gone
};
ProcessStat StatOf(const fs::path& process) {
  ProcessStat stat;
  const std::string text = ReadAll(process / "stat");
  const size_t name = text.find('('), end = text.rfind(')');
  if (name == std::string::npos || end == std::string::npos) return stat;
  stat.name = text.substr(name + 1, end - name - 1);
  stat.started = StatNumber(text, kStatStart);
  return stat;
}

std::vector<LedgerDirectory::LedgerFile> ListLedgers(const std::vector<std::string>& directories) {
  std::vector<LedgerDirectory::LedgerFile> ledgers;
  std::error_code error;
  for (const std::string& directory : directories) {
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
      LedgerDirectory::LedgerFile ledger;
      if (!ParseLedgerName(entry.path().filename().string(), &ledger.pid, &ledger.serial)) continue;
      ledger.path = entry.path().string();
      ledgers.push_back(std::move(ledger));
    }
  }
  std::sort(ledgers.begin(), ledgers.end(), [](const auto& a, const auto& b) {
    return std::tie(a.pid, a.serial) < std::tie(b.pid, b.serial);
  });
  return ledgers;
}

}  // namespace

Result<LedgerDirectory> LedgerDirectory::CreateIn(const std::string& place) {
  if (!HasSpace(place)) return Error::Of("no space for the ledgers in ", place);
  std::string top = place + "/" + std::string(kPrefix) + std::to_string(getpid()) + "-XXXXXX";
  std::string path;
  if (mkdtemp(top.data()) != nullptr) path = geteuid() == 0 ? MakeForAllUsers(top) : top;
  if (path.empty())
    return Error::Of("cannot make a directory for the ledgers in ", place, ": ", strerror(errno));
  int lock = open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock >= 0) flock(lock, LOCK_EX | LOCK_NB);  // nobody else knows the name yet
  return LedgerDirectory(std::move(top), std::move(path), lock, IsOnDisk(place));
}

Result<LedgerDirectory> LedgerDirectory::Create() {
  Error last = Error::Of("no place for the ledgers");
  for (const std::string& place : Places()) {
    Result<LedgerDirectory> directory = CreateIn(place);
    if (directory) return directory;
    last = directory.error();
  }
  return last;
}

void LedgerDirectory::MakeRoomOf(const std::string& ledger) {
  uint32_t pid = 0, serial = 0;
  if (on_disk_ || !ParseLedgerName(ledger, &pid, &serial)) return;
  const std::string from = path_ + "/" + ledger;
  if (kept_ < kMostKept && !IsShortOfSpace(path_)) {
    kept_ += MemoryOf(from);
    return;
  }
  for (const std::string& place : Places()) {
    if (moved_ != nullptr) break;
    if (!IsOnDisk(place)) continue;
    if (Result<LedgerDirectory> directory = CreateIn(place))
      moved_ = std::make_unique<LedgerDirectory>(std::move(*directory));
  }
  if (moved_ != nullptr) Move(from, moved_->path() + "/" + ledger);
}

LedgerDirectory::LedgerDirectory(std::string top, std::string path, int lock, bool on_disk)
    : top_(std::move(top)), path_(std::move(path)), lock_(lock), on_disk_(on_disk) {}

LedgerDirectory::LedgerDirectory(LedgerDirectory&& other) noexcept
    : top_(std::exchange(other.top_, {})),
      path_(std::exchange(other.path_, {})),
      lock_(std::exchange(other.lock_, -1)),
      on_disk_(other.on_disk_),
      keep_(other.keep_),
      kept_(other.kept_),
      moved_(std::move(other.moved_)) {}

void LedgerDirectory::Remove() {
  moved_.reset();
  std::error_code error;
  if (!top_.empty() && !keep_) fs::remove_all(top_, error);
  top_.clear();
  path_.clear();
  if (lock_ >= 0) close(lock_);
  lock_ = -1;
}

void LedgerDirectory::Keep() {
  keep_ = true;
  std::ofstream(top_ + "/" + kNamedMark).flush();  // nobody needs to be told of it again
  if (moved_ != nullptr) moved_->Keep();
}

std::vector<std::string> LedgerDirectory::paths() const {
  return moved_ != nullptr ? std::vector{path_, moved_->path_} : std::vector{path_};
}

std::vector<LedgerDirectory::LedgerFile> LedgerDirectory::List() const { return ListLedgers(paths()); }

bool ParseLedgerName(const std::string& name, uint32_t* pid, uint32_t* serial) {
  if (!name.ends_with(kSuffix)) return false;
  const char* end = name.data() + name.size() - kSuffix.size();
  auto [dot, pid_error] = std::from_chars(name.data(), end, *pid);
  if (pid_error != std::errc() || dot == end || *dot != '.') return false;
  auto [rest, serial_error] = std::from_chars(dot + 1, end, *serial);
  return serial_error == std::errc() && rest == end;
}

bool IsRecordedInto(const LedgerDirectory::LedgerFile& ledger) {
  std::ifstream maps("/proc/" + std::to_string(ledger.pid) + "/maps");
  if (!maps) {
    // Gone; or not to be looked at: with another user's rights by now, or not dumpable.
    return errno == EACCES && (kill(static_cast<pid_t>(ledger.pid), 0) == 0 || errno == EPERM);
  }
  for (std::string line; std::getline(maps, line);) {
    if (line.find(ledger.path) != std::string::npos) return true;
  }
  return false;
}

std::vector<ToldProcess> ProcessesToldOf(const std::string& ledger_directory) {
  std::vector<ToldProcess> told;
  const uint64_t we_started = StatOf("/proc/self").started;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    uint32_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc()) continue;
    ProcessStat stat = StatOf(entry.path());
    if (stat.started < we_started || pid == static_cast<uint32_t>(getpid())) continue;
    if (ReadAll(entry.path() / "environ").find("=" + ledger_directory + '\0') != std::string::npos)
      told.push_back({pid, std::move(stat.name)});
  }
  std::ranges::sort(told, {}, &ToldProcess::pid);
  return told;
}

std::vector<std::string> TidyLeftOvers() {
  std::vector<std::string> kept;
  for (const std::string& place : Places()) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(place, error)) {
      if (!entry.path().filename().string().starts_with(kPrefix)) continue;
      int lock = LockLeftOver(entry.path());
      if (lock < 0) continue;
      const std::string where = LedgersIn(entry.path());
      const std::vector<LedgerDirectory::LedgerFile> ledgers = ListLedgers({where});
      const time_t age = SecondsSinceChange(where);
      const bool unused = std::none_of(ledgers.begin(), ledgers.end(), IsRecordedInto);
      if (unused && age > (ledgers.empty() ? kEmptyLeftOverSeconds : kLeftOverSeconds)) {
        fs::remove_all(entry.path(), error);
      } else if (!ledgers.empty() && !fs::exists(entry.path() / kNamedMark, error)) {
        std::ofstream(entry.path() / kNamedMark).flush();
        fs::last_write_time(where, fs::file_time_type::clock::now() - std::chrono::seconds(age), error);
        kept.push_back(entry.path().string());
      }
      close(lock);
    }
  }
  return kept;
}

}  // namespace profagent
