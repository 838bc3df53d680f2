#include "agent/lifecycle/profile_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>

#include "agent/base/arena.h"
#include "agent/base/log.h"
#include "agent/base/process_stat.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/short_wait.h"
#include "agent/capture/cpu_timers.h"
#include "agent/encode/elf_symbols.h"
#include "agent/encode/pprof_encoder.h"
#include "agent/encode/profile_file.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {
namespace {

constexpr uint64_t kLeastEncoderMemory = uint64_t{16} << 20;  // also where recording was allowed less
constexpr uint32_t kMostNames = 1000;                         // that are looked at for a free one

// When a regular file was written; 0: there is none.
uint64_t TimeOf(const PathText& path) {
  struct stat file = {};
  bool found = RawSyscall(SYS_newfstatat, AT_FDCWD, path.c_str(), &file, 0) == 0 && S_ISREG(file.st_mode);
  return found ? static_cast<uint64_t>(file.st_mtim.tv_sec) * kNanosPerSecond +
                     static_cast<uint64_t>(file.st_mtim.tv_nsec)
               : 0;
}

// In units of 10 ms since boot; 0: without /proc.
uint64_t ReadProcessStart() {
  char text[1024];
  long fd = RawSyscall(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (SyscallError(fd) != 0) return 0;
  long size = RawSyscall(SYS_read, fd, text, sizeof text);
  RawSyscall(SYS_close, fd);
  return StatNumber({text, size > 0 ? static_cast<size_t>(size) : 0}, kStatStart);
}

// When the process began, not the program that it is now, or up to two hundredths of a second before: it is known to a hundredth, and
// the times of files are of the kernel's last tick, which may be another before they are written. Without /proc: never.
uint64_t ProcessStart(const Ledger& ledger) {
  // It stays, but the clock may be set; a fork has a ledger of its own. The kernel adds up all threads for that file.
  static constinit uint64_t ticks = 0, of_image = 0;
  if (of_image != ledger.header()->start_realtime_ns) ticks = ReadProcessStart();
  if (ticks == 0) return UINT64_MAX;
  of_image = ledger.header()->start_realtime_ns;
  return (ReadClock(CLOCK_REALTIME) - ReadClock(CLOCK_BOOTTIME)).value +
         (ticks - 1) * (kNanosPerSecond / 100);
}

// Room for the files that are opened to write a profile, where the program has used its descriptors up: the soft limit is moved up
// to the hard one for so long. At its end only, for until then another thread could get a number that it was not to get.
class RoomAtTheEnd {
 public:
  explicit RoomAtTheEnd(Afterwards afterwards) {
    if (afterwards != Afterwards::kProcessEnds) return;
    long probe = RawSyscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);
    if (SyscallError(probe) == 0) RawSyscall(SYS_close, probe);
    if (SyscallError(probe) != EMFILE) return;
    if (RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &asked_) != 0) return;
    struct rlimit more = {asked_.rlim_max, asked_.rlim_max};
    moved_ = RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, nullptr) == 0;
  }
  ~RoomAtTheEnd() {
    if (moved_) RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &asked_, nullptr);
  }
  RoomAtTheEnd(const RoomAtTheEnd&) = delete;
  RoomAtTheEnd& operator=(const RoomAtTheEnd&) = delete;

 private:
  struct rlimit asked_ = {};
  bool moved_ = false;
};

std::string_view TextOf(const Ledger& ledger, RecordId id) {
  auto view = LedgerView::Over(ledger.bytes());
  return view ? view->Text(id) : std::string_view();
}

bool HasHeapSamples(const LedgerHeader& header) {
  return header.heap_inuse.load(std::memory_order_relaxed) != 0 ||
         header.heap_highest.load(std::memory_order_relaxed) != 0;
}

// Nothing was sampled.
bool IsEmpty(const LedgerView& view, ProfileKind kind) {
  bool empty = true;
  switch (kind) {
    case ProfileKind::kCpu:
      return view.header().cpu_ticks.load(std::memory_order_relaxed) == 0;
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      if (HasHeapSamples(view.header())) return false;
      view.ForEachHeapSite([&](const LedgerView::HeapSite&) { empty = false; });  // of no bytes
      return empty;
    case ProfileKind::kBlock:
      // Whether a thread that waits still will be a sample is the encoder's to say.
      view.ForEachWaiter([&](const LedgerView::Waiter&) { empty = false; });
      [[fallthrough]];
    case ProfileKind::kMutex: {
      auto which = kind == ProfileKind::kBlock ? ContentionKind::kBlock : ContentionKind::kMutex;
      view.ForEachContentionSite([&](const LedgerView::ContentionSite& site) {
        if (site.kind == which && site.count != 0) empty = false;
      });
      return empty;
    }
  }
  return empty;
}

}  // namespace

bool MayHaveSamples(const LedgerHeader& header, const WantedProfiles& wanted) {
  return std::ranges::any_of(wanted.profiles, [&](const WantedProfile& profile) {
    if (!profile.taken || profile.file.empty()) return false;
    switch (profile.kind) {
      case ProfileKind::kCpu:
        return header.cpu_ticks.load(std::memory_order_relaxed) != 0;
      case ProfileKind::kHeap:
      case ProfileKind::kAllocs:
      case ProfileKind::kHeapPeak:
        return HasHeapSamples(header);
      case ProfileKind::kBlock:
      case ProfileKind::kMutex:
        return true;  // the header does not say
    }
    return true;
  });
}

PathText AbsolutePath(const Ledger& ledger, std::string_view path) {
  PathText absolute;
  if (!path.empty() && path.front() != '/') {
    std::string_view directory = TextOf(ledger, ledger.header()->working_directory);
    // Empty: one without a name, which would be longer than names can be.
    absolute.Add(directory, directory.empty() ? "" : "/");
  }
  absolute.Add(path);
  return absolute;
}

std::string_view ProgramName(const Ledger& ledger) { return TextOf(ledger, ledger.header()->program); }

bool WriteProfile(const Ledger& ledger, const WantedProfile& profile, std::string_view path,
                  WhenEmpty when_empty, Afterwards afterwards) {
  if (path.empty()) {
    Log(Verbosity::kErrors, "no ", profile.what, " written: the name in ", profile.variable, " is too long");
    return false;
  }
  auto view = LedgerView::Over(ledger.bytes());
  if (!view) {
    Log(Verbosity::kErrors, "no ", profile.what, " written: ", view.error().text.view());
    return false;
  }
  if (when_empty == WhenEmpty::kSkip && IsEmpty(*view, profile.kind)) return false;

  RoomAtTheEnd room(afterwards);
  // Writing takes no more memory than recording was allowed; with less than it wants, the profile says what is missing.
  Arena arena(ledger.header()->size < kLeastEncoderMemory ? kLeastEncoderMemory : ledger.header()->size);
  ElfSymbols symbols(arena, ElfSymbols::Origin::kThisProcess);
  EncodeRequest request{};
  request.kind = profile.kind;
  request.end_monotonic = ReadClock(CLOCK_MONOTONIC);
  PathText absolute = AbsolutePath(ledger, path);
  Status written = WriteProfileFile(absolute.c_str(), [&](ByteSink sink) {
    return EncodeProfileGzip(*view, request, symbols, arena, sink);
  });
  if (afterwards == Afterwards::kProcessEnds) arena.LeaveToExit();
  if (!written) {
    Log(Verbosity::kErrors, "no ", profile.what, " written: ", written.error().text.view());
    return false;
  }
  Log(Verbosity::kFiles, "wrote a ", profile.what, " to ", absolute.view());
  Nanos took = ReadClock(CLOCK_MONOTONIC) - request.end_monotonic;
  Log(Verbosity::kDebug, "writing it took ", took.value / 1000, " us");
  return true;
}

uint32_t UnusedNumber(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                      WrittenAt when, uint32_t dump_number) {
  uint32_t number = 1;
  for (size_t i = 0; i < kWantedProfiles && number < kMostNames;) {
    const WantedProfile& profile = wanted.profiles[i++];
    if (!profile.taken || profile.file.empty()) continue;
    PathText path = NumberedPath(ProfilePath(profile.file, process, when, dump_number), number);
    if (path.empty()) continue;  // too long: is said when it is to be written
    PathText absolute = AbsolutePath(ledger, path.view());
    if (RawSyscall(SYS_faccessat, AT_FDCWD, absolute.c_str(), F_OK) != 0) continue;
    ++number;
    i = 0;
  }
  return number;
}

uint32_t NextDumpNumber(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                        uint32_t last, WhoseDumps whose) {
  const uint64_t start = ProcessStart(ledger);
  const uint64_t end = whose == WhoseDumps::kAll ? UINT64_MAX : ledger.header()->start_realtime_ns;
  uint32_t number = last + 1;
  for (size_t i = 0; i < kWantedProfiles && number < last + kMostNames;) {
    const WantedProfile& profile = wanted.profiles[i++];
    if (!profile.taken) continue;
    PathText path = AbsolutePath(ledger, DumpPath(profile, process, number).view());
    const uint64_t written = TimeOf(path);
    if (written < start || written > end) continue;
    ++number;
    i = 0;
  }
  return number;
}

PlainNameTurn::PlainNameTurn(const Ledger& ledger, const WantedProfiles& wanted)
    : Holding([](Holding* self) { static_cast<PlainNameTurn*>(self)->End(); }) {
  PathText directory;
  for (const WantedProfile& profile : wanted.profiles) {
    if (!profile.taken || profile.file.empty()) continue;
    PathText path = AbsolutePath(ledger, profile.file);
    directory.Add(path.view().substr(0, path.view().rfind('/') + 1));
    break;
  }
  if (directory.empty()) return;
  long fd = RawSyscall(SYS_openat, AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (SyscallError(fd) != 0) return;
  fd_ = static_cast<int>(fd);
  for (int i = 0; i < kLongestWait; ++i) {
    // Another error will not change: a file system without such locks, a sandbox.
    if (SyscallError(RawSyscall(SYS_flock, fd_, LOCK_EX | LOCK_NB)) != EWOULDBLOCK) return;
    SleepMillisecond();
  }
}

void PlainNameTurn::End() {
  if (fd_ < 0) return;
  RawSyscall(SYS_flock, fd_, LOCK_UN);  // a child of another thread may have the descriptor, too
  RawSyscall(SYS_close, fd_);
  fd_ = -1;
}

bool AppearedMeanwhile(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                       uint32_t dump_number) {
  for (const WantedProfile& profile : wanted.profiles) {
    if (!profile.taken || profile.file.empty()) continue;
    PathText path =
        AbsolutePath(ledger, ProfilePath(profile.file, process, WrittenAt::kEnd, dump_number).view());
    if (TimeOf(path) <= ledger.header()->start_realtime_ns) continue;
    Log(Verbosity::kErrors, path.view(), " is another process's, written since this one began: .",
        process.program, '.', process.pid, " is behind the names of this one's profiles");
    return true;
  }
  return false;
}

}  // namespace profagent
