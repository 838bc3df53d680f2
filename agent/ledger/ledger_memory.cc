// Where the ledger's memory comes from, and where it goes. What is written into it: ledger.cc.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <new>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"
#include "agent/ledger/ledger.h"
#include "agent/ledger/ledger_allowance.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace profagent {
namespace {

constexpr uint64_t kPage = 4096;
// Bucket heads of stacks at most, and what they and those of other records take: a file has it reserved at once, page by page. What is
// forked meets few stacks for the most part.
constexpr uint32_t kLog2Stacks = 16;
constexpr uint32_t kLog2StacksOfForked = 13;
constexpr uint64_t kFirstReserve = 512 * 1024;
constexpr uint64_t kFirstReserveOfForked = 64 * 1024;
// Of texts: thread names may be many, with a number in each, of threads that come and go for days.
constexpr uint32_t Log2Texts(uint32_t log2_stacks) { return log2_stacks > 12 ? log2_stacks - 4 : 8; }
constexpr bool HoldsBuckets(uint64_t size, uint32_t log2_stacks) {
  uint64_t stacks = uint64_t{1} << log2_stacks;
  uint64_t texts = uint64_t{1} << Log2Texts(log2_stacks);
  return sizeof(LedgerHeader) + sizeof(RecordId) * (texts + stacks + stacks / 16 + stacks / 2 + 256) <= size;
}
static_assert(HoldsBuckets(kFirstReserve, kLog2Stacks) &&
              HoldsBuckets(kFirstReserveOfForked, kLog2StacksOfForked));
// PopulateAhead. A program that samples little (some thirty stacks and the first table of live blocks) has its few page faults.
constexpr uint64_t kPopulateFrom = 96 * 1024;
constexpr uint64_t kPopulateStep = 64 * 1024;
constexpr uint64_t kLargeLedger = uint64_t{4} << 20;
constexpr uint64_t kLargePopulateStep = uint64_t{1} << 20;
// Without MADV_POPULATE_WRITE (before Linux 5.14, or forbidden) a file is reserved whole, so it gets no more
// than this.
constexpr uint64_t kReservedWholeSize = uint64_t{16} << 20;
// Of its ledger, a forked child leaves at most this share to ids of its parent's.
constexpr uint64_t kShareOfParent = 4;
constexpr uint32_t kOwned = 1;
constexpr uint32_t kNobody = 0;

constexpr uint64_t RoundDown(uint64_t value, uint64_t step) { return value / step * step; }

void SayLess(FixedText<160>& note, Bytes wanted, uint64_t size, std::string_view reason) {
  if (size >= wanted.value || reason.empty()) return;
  note.Add("the ledger takes ", size >> 10, " KiB instead of ", wanted.value >> 10, " KiB (", reason, ")");
}

// What a call says when it can be had here but the space cannot. Any other error means: try another call (an old kernel
// or file system, or a filter, which may answer with whatever it likes).
bool IsAboutSpace(int error) {
  return error == EFAULT || error == ENOMEM || error == ENOSPC || error == EDQUOT || error == EIO;
}

// Gives the first `size` bytes of the file their space, by the oldest means that works.
long ReserveWhole(int fd, uint64_t size) {
  long result;
  do {
    result = RawSyscall(SYS_fallocate, fd, 0, 0, size);
  } while (SyscallError(result) == EINTR);
  if (result == 0 || IsAboutSpace(SyscallError(result))) return result;
  static char zeroes[kPage];  // not constant: those would take a page of the library
  for (uint64_t at = 0; at < size;) {
    result = RawSyscall(SYS_pwrite64, fd, zeroes, sizeof zeroes, at);
    if (SyscallError(result) == EINTR) continue;
    if (SyscallError(result) != 0) return result;
    at += static_cast<uint64_t>(result);
  }
  return 0;
}

}  // namespace

Status Ledger::CreateAnonymous(Bytes wanted) {
  if (vacant_) return CreateInMemory(base_, size_);
  Close();
  Allowance allowance = AllowanceFor(wanted);
  allowance.CutForPrivateMemory();
  for (;; allowance.CutTo(allowance.size / 2, "the kernel gives no more")) {
    long memory = MapSparse(allowance.size);
    if (SyscallError(memory) != 0) {
      if (allowance.size > kLedgerMinSize) continue;
      return Error::OfKernel(SyscallError(memory), "no memory for the smallest ledger (1 MiB)");
    }
    Status status = CreateInMemory(reinterpret_cast<std::byte*>(memory), allowance.size);
    SayLess(note_, wanted, allowance.size, allowance.reason);
    return status;
  }
}

Status Ledger::CreateInMemory(std::byte* base, uint64_t size) {
  RawSyscall(SYS_madvise, base, size, MADV_WIPEONFORK);
  Status status = Format(base, size, size);
  owner_mark_ = &header()->version;
  return status;
}

Status Ledger::CreateInFile(const char* path, Bytes wanted) {
  Allowance allowance = AllowanceFor(wanted);
  uint64_t file_limit = ResourceLimit(RLIMIT_FSIZE);  // passing it would be SIGXFSZ, which kills
  if (file_limit < kLedgerMinSize)
    return Error::OfKernel(EFBIG, "RLIMIT_FSIZE is too small for a ledger in ", path);
  allowance.CutTo(file_limit, "the file size limit, RLIMIT_FSIZE");

  int fd = static_cast<int>(
      RawSyscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd < 0) return Error::OfKernel(-fd, "cannot create ", path);
  RawSyscall(SYS_fchmod, fd, 0600);  // whatever the umask: who started us must be able to read it

  long memory = 0;
  bool in_place = false;
  auto fail = [&](int error, std::string_view step) {
    if (in_place && SyscallError(MapSparse(size_, base_)) != 0) Close();
    if (memory > 0 && !in_place) RawSyscall(SYS_munmap, memory, allowance.size);
    RawSyscall(SYS_close, fd);
    RawSyscall(SYS_unlink, path);
    return Error::OfKernel(error, step, " ", path);
  };

  for (;; allowance.CutTo(allowance.size / 2, "the kernel gives no more")) {
    long result = RawSyscall(SYS_ftruncate, fd, allowance.size);
    if (SyscallError(result) != 0) return fail(SyscallError(result), "cannot make room in");
    in_place = vacant_ && allowance.size == size_;
    if (!in_place) Close();
    memory = RawSyscall(SYS_mmap, base_, allowance.size, PROT_READ | PROT_WRITE,
                        in_place ? MAP_SHARED | MAP_FIXED : MAP_SHARED, fd, 0);
    if (SyscallError(memory) == 0) break;
    if (allowance.size <= kLedgerMinSize) return fail(SyscallError(memory), "cannot map");
  }

  uint64_t reserved = vacant_ ? kFirstReserveOfForked : kFirstReserve;
  int error = SyscallError(RawSyscall(SYS_madvise, memory, reserved, MADV_POPULATE_WRITE));
  if (error != 0 && !IsAboutSpace(error)) {
    uint64_t mapped = allowance.size;
    allowance.CutTo(kReservedWholeSize, "MADV_POPULATE_WRITE is not available: all of it is reserved now");
    for (;; allowance.CutTo(allowance.size / 2, "the file system gives no more")) {
      error = SyscallError(ReserveWhole(fd, allowance.size));
      if (error != ENOSPC || allowance.size <= kLedgerMinSize) break;
      RawSyscall(SYS_ftruncate, fd, 0);  // gives back what it got before it failed
      RawSyscall(SYS_ftruncate, fd, mapped);
    }
    if (mapped > allowance.size) {
      RawSyscall(SYS_munmap, memory + static_cast<long>(allowance.size), mapped - allowance.size);
      RawSyscall(SYS_ftruncate, fd, allowance.size);
    }
    reserved = allowance.size;
  }
  if (error == EFAULT)
    error = ENOSPC;  // populate says EFAULT where a touch would be SIGBUS: no page to be had
  if (error != 0) return fail(error, "cannot reserve space in");
  RawSyscall(SYS_close, fd);
  RawSyscall(SYS_madvise, memory, allowance.size, MADV_DONTDUMP);

  Status status = Format(reinterpret_cast<std::byte*>(memory), allowance.size, reserved);
  in_file_ = true;
  static constexpr uint32_t kAlwaysOwned = kOwned;
  owner_mark_ = &kAlwaysOwned;
  long page =
      RawSyscall(SYS_mmap, nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (SyscallError(page) == 0) {
    auto* mark = reinterpret_cast<uint32_t*>(page);
    *mark = kOwned;
    RawSyscall(SYS_madvise, page, kPage, MADV_WIPEONFORK);
    owner_mark_ = owner_page_ = mark;
  }
  SayLess(note_, wanted, allowance.size, allowance.reason);
  return status;
}

Status Ledger::Format(std::byte* base, uint64_t size, uint64_t reserved) {
  auto* header = new (base) LedgerHeader{};
  header->version = kLedgerVersion;
  header->header_size = sizeof(LedgerHeader);
  header->size = size;

  // Bucket heads: one for some 4 KiB of ledger, so that chains stay short when it is full, and never more
  // than a quarter megabyte of them, so that a small profile touches little.
  uint32_t log2_stacks = 8;
  while (log2_stacks < (vacant_ ? kLog2StacksOfForked : kLog2Stacks) &&
         (uint64_t{4096} << log2_stacks) < size)
    ++log2_stacks;
  uint64_t at = sizeof(LedgerHeader);
  auto place = [&](uint32_t log2_count) {
    BucketArray array{static_cast<RecordId>(at / kRecordUnit), log2_count};
    at += RoundUp((uint64_t{1} << log2_count) * sizeof(RecordId), kRecordUnit);
    return array;
  };
  texts_ = header->texts = place(Log2Texts(log2_stacks));
  stacks_ = header->stacks = place(log2_stacks);
  cpu_sites_ = header->cpu_sites = place(log2_stacks - 4);  // for some thousand ticks a second at most
  heap_sites_ = header->heap_sites = place(log2_stacks - 1);
  contention_sites_ = header->contention_sites = place(8);
  uint64_t start = at;
  if (used_before_fork_ > at && used_before_fork_ <= size / kShareOfParent)
    start = RoundUp(used_before_fork_, kPage);
  header->used.store(start, std::memory_order_relaxed);
  header->reserved.store(start < reserved ? reserved : start, std::memory_order_relaxed);

  base_ = base;
  size_ = size;
  populated_ = start > at ? start : 0;
  first_record_ = at;
  records_start_ = start;
  if (handed_out_ < start) handed_out_ = start;
  own_made_ = 0;
  free_waiters_ = 0;
  vacant_ = false;
  // release: whoever sees the magic sees the formatted header
  std::atomic_ref<uint64_t>(header->magic).store(kLedgerMagic, std::memory_order_release);
  return Done{};
}

// The gap is handed out like a record, so that nobody else can be given any of it.
void Ledger::KeepToLimit(Bytes limit) {
  if (base_ != nullptr && (vacant_ || !IsOwn())) return GiveUnusedBack();
  if (!CanRecord()) return;
  uint64_t kept = limit.value / kShareOfLimit;
  if (kept < kLedgerMinSize) kept = kLedgerMinSize;
  if (kept >= size_) return;
  uint64_t end = RoundDown(size_ - kept, kPage);
  std::atomic<uint64_t>& used = header()->used;
  uint64_t at = used.load(std::memory_order_relaxed);
  uint64_t none = 0;
  if (at < first_record_ || RoundUp(at, kPage) >= end ||
      !std::atomic_ref<uint64_t>(gap_end_).compare_exchange_strong(none, end)) {
    return;
  }
  gap_start_ = end;
  while (!used.compare_exchange_weak(at, end, std::memory_order_relaxed)) {
    if (RoundUp(at, kPage) >= end) return;
  }
  uint64_t start = RoundUp(at, kPage);
  // Records that are being made below the gap find their space reserved, those behind it theirs not.
  if (in_file_ && ReserveUpTo(start)) {
    uint64_t reserved = header()->reserved.load(std::memory_order_relaxed);
    while (reserved < end &&
           !header()->reserved.compare_exchange_weak(reserved, end, std::memory_order_acq_rel)) {
    }
  }
  gap_start_ = start;
  RawSyscall(SYS_munmap, base_ + start, end - start);
}

// In a child that is not followed, or in the copy of us that a raw clone made. Records stay: hooks hold pointers to them.
void Ledger::GiveUnusedBack() {
  uint64_t start = RoundUp(handed_out_, kPage);
  if (gap_end_ != 0 || start >= size_) return;
  gap_start_ = start;
  gap_end_ = size_;
  RawSyscall(SYS_munmap, base_ + start, size_ - start);
}

void Ledger::Close() {
  Ledger old = *this;
  *this = Ledger{};  // first, so that a handler that comes now finds it closed
  if (old.base_ != nullptr) {
    if (old.gap_start_ != 0) RawSyscall(SYS_munmap, old.base_, old.gap_start_);
    RawSyscall(SYS_munmap, old.base_ + old.gap_end_, old.size_ - old.gap_end_);
  }
  if (old.owner_page_ != nullptr) RawSyscall(SYS_munmap, old.owner_page_, kPage);
}

void Ledger::BeforeFork() {
  if (CanRecord())
    __atomic_store_n(&used_before_fork_, header()->used.load(std::memory_order_relaxed), __ATOMIC_RELAXED);
}

void Ledger::Vacate() {
  if (base_ == nullptr || gap_end_ != 0) return Close();
  owner_mark_ = &kNobody;
  // Empty already, from Linux 4.14 on.
  long result = in_file_ ? MapSparse(size_, base_) : RawSyscall(SYS_madvise, base_, size_, MADV_DONTNEED);
  if (SyscallError(result) != 0) return Close();
  if (owner_page_ != nullptr) RawSyscall(SYS_munmap, owner_page_, kPage);
  owner_page_ = nullptr;
  mark_aside_ = nullptr;
  in_file_ = false;
  vacant_ = true;
  note_ = {};
}

void Ledger::Suspend(bool suspended) {
  if (base_ == nullptr || suspended == (mark_aside_ != nullptr)) return;
  const uint32_t* mark = suspended ? &kNobody : mark_aside_;
  mark_aside_ = suspended ? owner_mark_ : nullptr;
  __atomic_store_n(&owner_mark_, mark, __ATOMIC_RELEASE);
}

std::span<const std::byte> Ledger::bytes() const { return {base_, size_}; }

uint64_t Ledger::SampleBucketsStart() const { return stacks_.first * kRecordUnit; }

bool Ledger::ReserveUpTo(uint64_t end) {
  uint64_t reserved = header()->reserved.load(std::memory_order_acquire);
  if (end <= reserved) return true;
  // Two threads may populate the same pages: harmless. Only the larger end is kept.
  uint64_t want = RoundUp(end, kReserveStep);
  if (want > size_) want = size_;
  long result = RawSyscall(SYS_madvise, base_ + reserved, want - reserved, MADV_POPULATE_WRITE);
  if (SyscallError(result) != 0) return false;
  while (reserved < want &&
         !header()->reserved.compare_exchange_weak(reserved, want, std::memory_order_acq_rel)) {
  }
  return true;
}

void Ledger::PopulateAhead() {
  if (in_file_ || !CanRecord()) return;
  uint64_t used = header()->used.load(std::memory_order_relaxed);
  if (used < records_start_ + kPopulateFrom) return;
  std::atomic_ref<uint64_t> populated(populated_);
  uint64_t until = populated.load(std::memory_order_relaxed);
  uint64_t step = used < kLargeLedger ? kPopulateStep : kLargePopulateStep;
  if (used + step / 4 < until) return;
  uint64_t from = RoundUp(used, kPage);
  if (from < until) from = until;
  uint64_t to = from + step;
  // Hashes hit every page of the buckets soon: they come with the first step. Not across a gap, which is not ours.
  bool has_gap = std::atomic_ref<uint64_t>(gap_end_).load(std::memory_order_relaxed) != 0;
  if (until == 0 && !has_gap) from = RoundDown(SampleBucketsStart(), kPage);
  if (to > size_ || !populated.compare_exchange_strong(until, to, std::memory_order_relaxed)) return;
  RawSyscall(SYS_madvise, base_ + from, to - from, MADV_POPULATE_WRITE);  // refused: page faults as ever
}

// Only pages that the sampling alone touches: a thread that is still at work may intern a text, whose buckets stand before
// those, and new records reserve their own space. Touching a page that was given back could be SIGBUS.
void Ledger::ReleaseUnused() {
  if (!in_file_ || !CanRecord()) return;
  uint64_t reserved = header()->reserved.load(std::memory_order_acquire);
  uint64_t end = RoundUp(header()->used.load(std::memory_order_relaxed), kPage);
  if (end < reserved) {
    header()->reserved.store(end, std::memory_order_release);
    RawSyscall(SYS_madvise, base_ + end, reserved - end, MADV_REMOVE);
  }
  uint64_t last = RoundDown(first_record_, kPage);
  uint64_t empty_from = 0;
  for (uint64_t page = RoundUp(SampleBucketsStart(), kPage); page <= last; page += kPage) {
    bool empty = page < last;
    for (uint64_t at = 0; empty && at < kPage; at += sizeof(uint64_t)) {
      empty = __atomic_load_n(reinterpret_cast<uint64_t*>(base_ + page + at), __ATOMIC_RELAXED) == 0;
    }
    if (empty && empty_from == 0) empty_from = page;
    if (!empty && empty_from != 0) {
      RawSyscall(SYS_madvise, base_ + empty_from, page - empty_from, MADV_REMOVE);
      empty_from = 0;
    }
  }
}

bool Ledger::ReserveAgain() {
  if (!in_file_ || !CanRecord()) return true;
  uint64_t start = RoundDown(SampleBucketsStart(), kPage);
  return RawSyscall(SYS_madvise, base_ + start, RoundUp(first_record_, kPage) - start, MADV_POPULATE_WRITE) ==
         0;
}

}  // namespace profagent
