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

namespace profagent {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "profagent-run-";
constexpr std::string_view kSuffix = ".ledger";
constexpr const char* kNamedMark = "named";
// Below this much space a place is passed over: a ledger starts with half a megabyte a process.
constexpr uint64_t kLeastSpace = uint64_t{16} << 20;
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

bool HasSpace(const std::string& place) {
  struct statfs info = {};
  return statfs(place.c_str(), &info) == 0 &&
         info.f_bavail * static_cast<uint64_t>(info.f_bsize) >= kLeastSpace;
}

bool IsOnDisk(const std::string& path) {
  struct statfs info = {};
  if (statfs(path.c_str(), &info) != 0) return false;
  return info.f_type != TMPFS_MAGIC && info.f_type != RAMFS_MAGIC;
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

// Of /proc/PID/stat. The name in parentheses may hold anything, a parenthesis too: the last one ends it.
struct ProcessStat {
  std::string name;
  uint64_t started = 0;  // ticks since boot; 0: it is gone
};
ProcessStat StatOf(const fs::path& process) {
  constexpr int kFieldsToStart = 19;  // from the third, the state
  ProcessStat stat;
  const std::string text = ReadAll(process / "stat");
  const size_t name = text.find('('), end = text.rfind(") ");
  if (name == std::string::npos || end == std::string::npos) return stat;
  stat.name = text.substr(name + 1, end - name - 1);
  size_t field = end + 2;
  for (int i = 0; i < kFieldsToStart; ++i) field = text.find(' ', field) + 1;
  std::from_chars(text.data() + field, text.data() + text.size(), stat.started);
  return stat;
}

std::vector<LedgerDirectory::LedgerFile> ListLedgers(const std::string& directory) {
  std::vector<LedgerDirectory::LedgerFile> ledgers;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    LedgerDirectory::LedgerFile ledger;
    if (!ParseLedgerName(entry.path().filename().string(), &ledger.pid, &ledger.serial)) continue;
    ledger.path = entry.path().string();
    ledgers.push_back(std::move(ledger));
  }
  std::sort(ledgers.begin(), ledgers.end(), [](const auto& a, const auto& b) {
    return std::tie(a.pid, a.serial) < std::tie(b.pid, b.serial);
  });
  return ledgers;
}

}  // namespace

Result<LedgerDirectory> LedgerDirectory::Create() {
  Error last = Error::Of("no place for the ledgers");
  for (const std::string& place : Places()) {
    if (!HasSpace(place)) {
      last = Error::Of("no space for the ledgers in ", place);
      continue;
    }
    std::string top = place + "/" + std::string(kPrefix) + std::to_string(getpid()) + "-XXXXXX";
    std::string path;
    if (mkdtemp(top.data()) != nullptr) path = geteuid() == 0 ? MakeForAllUsers(top) : top;
    if (path.empty()) {
      last = Error::Of("cannot make a directory for the ledgers in ", place, ": ", strerror(errno));
      continue;
    }
    int lock = open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock >= 0) flock(lock, LOCK_EX | LOCK_NB);  // nobody else knows the name yet
    return LedgerDirectory(std::move(top), std::move(path), lock, IsOnDisk(place));
  }
  return last;
}

LedgerDirectory::LedgerDirectory(std::string top, std::string path, int lock, bool on_disk)
    : top_(std::move(top)), path_(std::move(path)), lock_(lock), on_disk_(on_disk) {}

LedgerDirectory::LedgerDirectory(LedgerDirectory&& other) noexcept
    : top_(std::exchange(other.top_, {})),
      path_(std::exchange(other.path_, {})),
      lock_(std::exchange(other.lock_, -1)),
      on_disk_(other.on_disk_),
      keep_(other.keep_) {}

void LedgerDirectory::Remove() {
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
}

std::vector<LedgerDirectory::LedgerFile> LedgerDirectory::List() const { return ListLedgers(path_); }

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
    // Gone; or, with another user's rights by now, not to be looked at.
    return errno == EACCES && kill(static_cast<pid_t>(ledger.pid), 0) == -1 && errno == EPERM;
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
      const std::vector<LedgerDirectory::LedgerFile> ledgers = ListLedgers(where);
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
