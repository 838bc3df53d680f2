#include "symbolizer/run/harvest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "agent/base/arena.h"
#include "agent/base/program_name.h"
#include "agent/encode/elf_symbols.h"
#include "agent/encode/pprof_encoder.h"
#include "agent/ledger/ledger_view.h"
#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"

namespace profagent {
namespace {

// A copy of a ledger's file. Not the file mapped: reading a hole of a mapped file makes tmpfs allocate a page, and is SIGBUS
// where tmpfs is full, which is just when the ledgers matter. Front to back, so that what the copied bucket heads name is
// complete when its turn comes, also while a process goes on recording. How much is in use is read last: of what was read with
// the header, heads that were copied later would name records behind the end, and their chains were cut off.
class LedgerCopy {
 public:
  explicit LedgerCopy(const std::string& path) {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
      code_ = errno;
      return;
    }
    struct stat info = {};
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) Read(fd, info.st_size);
    close(fd);
  }
  ~LedgerCopy() {
    if (data_ != MAP_FAILED) munmap(data_, size_);
  }
  LedgerCopy(const LedgerCopy&) = delete;
  LedgerCopy& operator=(const LedgerCopy&) = delete;

  int code() const { return code_; }
  std::span<const std::byte> bytes() const {
    if (data_ == MAP_FAILED) return {};
    return {static_cast<const std::byte*>(data_), size_};
  }

 private:
  // The file is a quarter gigabyte of which little was ever written: only that takes memory here, too.
  void Read(int fd, off_t size) {
    size_ = static_cast<size_t>(size);
    data_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) {
      code_ = errno;
      return;
    }
    for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0 && at < size; at = lseek(fd, at, SEEK_DATA)) {
      const off_t end = lseek(fd, at, SEEK_HOLE);
      while (at < end) {
        const ssize_t n = pread(fd, static_cast<char*>(data_) + at, static_cast<size_t>(end - at), at);
        if (n < 0) code_ = errno;
        if (n <= 0) return;
        at += n;
      }
    }
    constexpr size_t kUsed = offsetof(LedgerHeader, used);
    if (size_ >= sizeof(LedgerHeader) &&
        pread(fd, static_cast<char*>(data_) + kUsed, sizeof(uint64_t), kUsed) < 0)
      code_ = errno;
  }

  void* data_ = MAP_FAILED;
  size_t size_ = 0;
  int code_ = 0;
};

Error About(const LedgerDirectory::LedgerFile& ledger, std::string_view what) {
  return Error::Of("the records of process ", ledger.pid, " cannot be used: ", what);
}

// It becomes a part of files' names. The records are those of another user, perhaps, who could lead us elsewhere by a path.
std::string_view NameOf(const LedgerView& view) {
  const std::string_view program = view.Text(view.header().program);
  return ShortenedName(program.substr(program.rfind('/') + 1));
}

uint64_t NanosOf(const LedgerView& view, uint64_t ticks) {
  const uint64_t hz = view.header().cpu_hz.load(std::memory_order_relaxed);
  return hz != 0 ? ticks * (kNanosPerSecond / hz) : 0;
}

// CPU time that the agent counted and could not keep.
uint64_t LostNanos(const LedgerView& view) {
  const uint64_t taken = view.header().cpu_ticks.load(std::memory_order_relaxed);
  uint64_t kept = 0;
  view.ForEachCpuSite([&](const LedgerView::CpuSite& site) { kept += site.ticks; });
  return taken > kept ? NanosOf(view, taken - kept) : 0;
}

// Of a process that was killed nobody wrote the time down: then when its ledger was let go. Not known either: it goes on.
Nanos EndOf(const LedgerView& view, Nanos released) {
  const uint64_t noted = view.header().end_monotonic_ns.load(std::memory_order_relaxed);
  if (noted != 0) return Nanos{noted};
  return released != Nanos{} ? released : MonotonicNow();
}

Result<Profile> ProfileOf(const LedgerView& view, Nanos end, ProfileKind kind) {
  std::string encoded;
  auto append = [&](std::span<const std::byte> bytes) {
    encoded.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  };
  Arena arena;
  EncodeRequest request;
  request.kind = kind;
  request.end_monotonic = end;
  // Names from the symbol tables now; files, lines and inlined functions when all is safely written.
  ElfSymbols symbols(arena, ElfSymbols::Origin::kElsewhere);
  if (Status status = EncodeProfile(view, request, symbols, arena, append); !status) return status.error();
  Result<Profile> profile = DecodeProfile(encoded);
  if (!profile) return profile.error();
  return Compact(*profile);
}

Result<ProcessProfiles> ReadLedger(const LedgerDirectory::LedgerFile& file, Nanos released,
                                   std::span<const ProfileKind> kinds) {
  LedgerCopy copy(file.path);
  if (copy.code() != 0) return About(file, strerror(copy.code()));
  Result<LedgerView> view = LedgerView::Over(copy.bytes());
  if (!view) return About(file, view.error().text.view());

  ProcessProfiles process;
  process.pid = file.pid;
  process.serial = file.serial;
  process.program = NameOf(*view);
  process.parent_pid = view->header().parent_pid;
  process.began_nanos = view->header().start_realtime_ns;
  process.still_records = released == Nanos{} && IsRecordedInto(file);
  process.end = static_cast<ProcessEnd>(view->header().process_end.load(std::memory_order_relaxed));
  process.lost_nanos = LostNanos(*view);
  process.unseen_nanos = NanosOf(*view, view->losses(Loss::kTimeNotSeen));
  process.hidden_children = view->losses(Loss::kChildHidden);
  process.has_own_allocator = view->losses(Loss::kHeapNotFollowed) != 0;
  const Nanos end = EndOf(*view, released);
  for (const ProfileKind kind : kinds) {
    Result<Profile> profile = ProfileOf(*view, end, kind);
    if (!profile) return About(file, profile.error().text.view());
    process.has_samples |= profile->sample_size() > 0;
    process.profiles.push_back({kind, std::move(*profile)});
  }
  return process;
}

// An exec by a raw system call is not noted: then the next image says it. What noted its end is another process of that pid.
void NoteExecs(std::vector<ProcessProfiles>& images) {
  for (size_t i = 0; i < images.size(); ++i) {
    const bool has_next = i + 1 < images.size() && images[i + 1].pid == images[i].pid;
    images[i].became_another =
        images[i].end == ProcessEnd::kExecuted || (images[i].end == ProcessEnd::kRunning && has_next);
  }
}

}  // namespace

Harvest HarvestLedgers(const std::vector<LedgerDirectory::LedgerFile>& ledgers, const LedgerWatch& watch,
                       std::span<const ProfileKind> kinds) {
  Harvest harvest;
  for (const LedgerDirectory::LedgerFile& file : ledgers) {
    Result<ProcessProfiles> process = ReadLedger(file, watch.ReleasedAt(file.path), kinds);
    if (process) {
      harvest.processes.push_back(std::move(*process));
    } else {
      harvest.problems.emplace_back(process.error().text.view());
    }
  }
  NoteExecs(harvest.processes);
  return harvest;
}

}  // namespace profagent
