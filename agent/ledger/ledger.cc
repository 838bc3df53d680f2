#include "agent/ledger/ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstring>
#include <new>

#include "agent/base/raw_syscall.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace profagent {
namespace {

constexpr uint64_t kReserveStep = 64 * 1024;
constexpr uint64_t kFirstReserve = 512 * 1024;
// Without MADV_POPULATE_WRITE (before Linux 5.14) a file is reserved whole, so it gets no more than this.
constexpr uint64_t kReservedWholeSize = uint64_t{16} << 20;
constexpr uint64_t kMaxTextSize = 4096;

constexpr uint64_t RoundUp(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

// FNV-1a over 64-bit words, folded; good enough for chains, and one multiplication a frame.
PROF_ALWAYS_INLINE uint32_t Fold(uint64_t hash) { return static_cast<uint32_t>(hash ^ hash >> 32); }
constexpr uint64_t kHashStart = 0xcbf29ce484222325;
constexpr uint64_t kHashPrime = 0x100000001b3;
PROF_ALWAYS_INLINE uint64_t Mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kHashPrime;
  return hash ^ hash >> 29;
}

// The size that RLIMIT_FSIZE leaves for a file; passing it would be SIGXFSZ, which kills.
uint64_t FileSizeLimit() {
  struct rlimit limit = {};
  if (RawSyscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) != 0) return kLedgerMaxSize;
  return limit.rlim_cur == RLIM_INFINITY ? kLedgerMaxSize : limit.rlim_cur;
}

}  // namespace

Status Ledger::CreateAnonymous(Bytes wanted) {
  uint64_t size = RoundUp(wanted.value < kLedgerMinSize ? kLedgerMinSize : wanted.value, 4096);
  if (size > kLedgerMaxSize) size = kLedgerMaxSize;
  for (;; size /= 2) {
    if (size < kLedgerMinSize) return Error::Of("no address space for the smallest ledger (1 MiB)");
    long memory = RawSyscall(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (SyscallError(memory) != 0) continue;
    RawSyscall(SYS_madvise, memory, size, MADV_WIPEONFORK);
    RawSyscall(SYS_madvise, memory, size, MADV_DONTDUMP);
    return Format(reinterpret_cast<std::byte*>(memory), size, size, false);
  }
}

Status Ledger::CreateInFile(const char* path, Bytes wanted) {
  uint64_t size = RoundUp(wanted.value < kLedgerMinSize ? kLedgerMinSize : wanted.value, 4096);
  if (size > kLedgerMaxSize) size = kLedgerMaxSize;
  uint64_t limit = FileSizeLimit();
  if (size > limit) size = limit / 4096 * 4096;
  if (size < kLedgerMinSize) return Error::Of("RLIMIT_FSIZE is too small for a ledger in ", path);

  int fd = static_cast<int>(
      RawSyscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd < 0) {
    Error error = Error::Of("cannot create ", path);
    error.code = -fd;
    return error;
  }
  const char* step = "ftruncate";
  long result = RawSyscall(SYS_ftruncate, fd, size);
  long memory = -1;
  if (result == 0) {
    step = "mmap";
    memory = result = RawSyscall(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  uint64_t reserved = 0;
  if (SyscallError(result) == 0) {
    step = "reserving space";
    reserved = kFirstReserve;
    result = RawSyscall(SYS_madvise, memory, reserved, MADV_POPULATE_WRITE);
    if (SyscallError(result) == EINVAL) {
      reserved = size < kReservedWholeSize ? size : kReservedWholeSize;
      result = RawSyscall(SYS_fallocate, fd, 0, 0, reserved);
      if (result == 0) {
        RawSyscall(SYS_munmap, memory + static_cast<long>(reserved), size - reserved);
        size = reserved;
      }
    }
  }
  RawSyscall(SYS_close, fd);
  if (SyscallError(result) != 0) {
    if (memory > 0) RawSyscall(SYS_munmap, memory, size);
    RawSyscall(SYS_unlink, path);
    Error error = Error::Of(step, " failed for ", path);
    error.code = SyscallError(result);
    return error;
  }
  RawSyscall(SYS_madvise, memory, size, MADV_DONTDUMP);
  return Format(reinterpret_cast<std::byte*>(memory), size, reserved, true);
}

Status Ledger::Format(std::byte* base, uint64_t size, uint64_t reserved, bool in_file) {
  auto* header = new (base) LedgerHeader{};
  header->version = kLedgerVersion;
  header->header_size = sizeof(LedgerHeader);
  header->size = size;

  // Bucket heads: one for some 4 KiB of ledger, so that chains stay short when it is full, and never more
  // than a quarter megabyte of them, so that a small profile touches little.
  uint32_t log2_stacks = 8;
  while (log2_stacks < 16 && (uint64_t{4096} << log2_stacks) < size) ++log2_stacks;
  uint64_t at = sizeof(LedgerHeader);
  auto place = [&](uint32_t log2_count) {
    BucketArray array{static_cast<RecordId>(at / kRecordUnit), log2_count};
    at += RoundUp((uint64_t{1} << log2_count) * sizeof(RecordId), kRecordUnit);
    return array;
  };
  texts_ = header->texts = place(8);
  stacks_ = header->stacks = place(log2_stacks);
  cpu_sites_ = header->cpu_sites = place(log2_stacks - 2);
  header->used.store(at, std::memory_order_relaxed);
  header->reserved.store(reserved, std::memory_order_relaxed);

  base_ = base;
  size_ = size;
  in_file_ = in_file;
  // release: whoever sees the magic sees the formatted header
  std::atomic_ref<uint64_t>(header->magic).store(kLedgerMagic, std::memory_order_release);
  return Done{};
}

void Ledger::Close() {
  if (base_ != nullptr) RawSyscall(SYS_munmap, base_, size_);
  *this = Ledger{};
}

std::span<const std::byte> Ledger::bytes() const { return {base_, size_}; }

std::atomic<RecordId>& Ledger::Bucket(const BucketArray& array, uint32_t hash) const {
  return At<std::atomic<RecordId>>(array.first)[hash & ((uint32_t{1} << array.log2_count) - 1)];
}

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

RecordId Ledger::Allocate(uint64_t size) {
  size = RoundUp(size, kRecordUnit);
  uint64_t used = header()->used.load(std::memory_order_relaxed);
  if (used == 0) return 0;  // wiped: a forked child before its own Create
  // Looked at first, so that a full ledger does not count `used` round the clock.
  if (used + size > size_) {
    Count(Loss::kLedgerFull);
    return 0;
  }
  uint64_t at = header()->used.fetch_add(size, std::memory_order_relaxed);
  if (at + size > size_) {
    Count(Loss::kLedgerFull);
    return 0;
  }
  if (in_file_ && !ReserveUpTo(at + size)) {
    Count(Loss::kNoSpace);
    return 0;
  }
  return static_cast<RecordId>(at / kRecordUnit);
}

void Ledger::Count(Loss loss, uint64_t times) {
  if (base_ == nullptr) return;
  header()->losses[static_cast<uint32_t>(loss)].fetch_add(times, std::memory_order_relaxed);
}

TextId Ledger::InternText(std::string_view text) {
  if (base_ == nullptr || text.empty()) return kNoText;
  if (text.size() > kMaxTextSize) text = text.substr(0, kMaxTextSize);
  uint64_t mixed = kHashStart;
  for (char c : text) mixed = (mixed ^ static_cast<uint8_t>(c)) * kHashPrime;
  uint32_t hash = Fold(mixed);
  auto& bucket = Bucket(texts_, hash);

  TextRecord* made = nullptr;
  RecordId made_id = 0;
  RecordId seen = 0;  // everything from here on down the chain was compared already
  RecordId head = bucket.load(std::memory_order_acquire);
  for (;;) {
    for (RecordId id = head; id != seen; id = At<TextRecord>(id)->next) {
      auto* record = At<TextRecord>(id);
      if (record->hash == hash && record->size == text.size() &&
          std::memcmp(record->data(), text.data(), text.size()) == 0) {
        return TextId{id};
      }
    }
    seen = head;
    if (made == nullptr) {
      made_id = Allocate(sizeof(TextRecord) + text.size() + 1);
      if (made_id == 0) return kNoText;
      made = At<TextRecord>(made_id);
      made->hash = hash;
      made->size = static_cast<uint32_t>(text.size());
      std::memcpy(made->data(), text.data(), text.size());
      made->data()[text.size()] = '\0';
    }
    made->next = head;
    // release: the record is filled. acquire: a newer head's record will be compared.
    if (bucket.compare_exchange_strong(head, made_id, std::memory_order_acq_rel, std::memory_order_acquire)) {
      return TextId{made_id};
    }
  }
}

bool Ledger::AddModule(const ModuleDescription& module) {
  if (base_ == nullptr) return false;
  TextId path = InternText(module.path);
  RecordId id = Allocate(sizeof(ModuleRecord));
  if (id == 0) return false;
  auto* record = At<ModuleRecord>(id);
  record->id = module.id;
  record->flags = module.flags;
  record->path = path.value;
  size_t build_id_size = module.build_id.size() < kMaxBuildIdSize ? module.build_id.size() : kMaxBuildIdSize;
  record->build_id_size = static_cast<uint32_t>(build_id_size);
  if (build_id_size > 0) std::memcpy(record->build_id, module.build_id.data(), build_id_size);
  record->load_bias = module.load_bias;
  record->start = module.start;
  record->limit = module.limit;
  record->text_start = module.text_start;
  record->text_limit = module.text_limit;
  record->text_file_offset = module.text_file_offset;
  RecordId head = header()->modules.load(std::memory_order_relaxed);
  do {
    record->next = head;
  } while (!header()->modules.compare_exchange_weak(head, id, std::memory_order_release));
  return true;
}

ThreadRecord* Ledger::AddThread(uint32_t tid, TextId name) {
  if (base_ == nullptr) return nullptr;
  RecordId id = Allocate(sizeof(ThreadRecord));
  if (id == 0) return nullptr;
  auto* record = At<ThreadRecord>(id);
  record->tid = tid;
  record->name.store(name.value, std::memory_order_relaxed);
  RecordId head = header()->threads.load(std::memory_order_relaxed);
  do {
    record->next = head;
  } while (!header()->threads.compare_exchange_weak(head, id, std::memory_order_release));
  return record;
}

StackId Ledger::InternStack(std::span<const Frame> frames, WalkEnd end) {
  if (base_ == nullptr || frames.empty()) return kNoStack;
  uint64_t mixed = Mix(kHashStart, static_cast<uint64_t>(end));
  for (Frame frame : frames) mixed = Mix(mixed, frame.value);
  uint32_t hash = Fold(mixed);
  auto& bucket = Bucket(stacks_, hash);

  StackRecord* made = nullptr;
  RecordId made_id = 0;
  RecordId seen = 0;
  RecordId head = bucket.load(std::memory_order_acquire);
  for (;;) {
    for (RecordId id = head; id != seen; id = At<StackRecord>(id)->next) {
      auto* record = At<StackRecord>(id);
      if (record->hash == hash && record->depth == frames.size() && record->end == end &&
          std::memcmp(record->frames(), frames.data(), frames.size_bytes()) == 0) {
        return StackId{id};
      }
    }
    seen = head;
    if (made == nullptr) {
      made_id = Allocate(sizeof(StackRecord) + frames.size_bytes());
      if (made_id == 0) return kNoStack;
      made = At<StackRecord>(made_id);
      made->hash = hash;
      made->depth = static_cast<uint16_t>(frames.size());
      made->end = end;
      std::memcpy(made->frames(), frames.data(), frames.size_bytes());
    }
    made->next = head;
    // release: the record is filled. acquire: a newer head's record will be compared.
    if (bucket.compare_exchange_strong(head, made_id, std::memory_order_acq_rel, std::memory_order_acquire)) {
      return StackId{made_id};
    }
  }
}

bool Ledger::AddCpuTicks(StackId stack, TextId thread_name, uint64_t ticks) {
  if (base_ == nullptr || stack == kNoStack) return false;
  uint32_t hash = Fold(Mix(Mix(kHashStart, stack.value), thread_name.value));
  auto& bucket = Bucket(cpu_sites_, hash);

  CpuSiteRecord* made = nullptr;
  RecordId made_id = 0;
  RecordId seen = 0;
  RecordId head = bucket.load(std::memory_order_acquire);
  for (;;) {
    for (RecordId id = head; id != seen; id = At<CpuSiteRecord>(id)->next) {
      auto* record = At<CpuSiteRecord>(id);
      if (record->stack == stack.value && record->name == thread_name.value) {
        record->ticks.fetch_add(ticks, std::memory_order_relaxed);
        return true;
      }
    }
    seen = head;
    if (made == nullptr) {
      made_id = Allocate(sizeof(CpuSiteRecord));
      if (made_id == 0) return false;
      made = At<CpuSiteRecord>(made_id);
      made->stack = stack.value;
      made->name = thread_name.value;
      made->ticks.store(ticks, std::memory_order_relaxed);
    }
    made->next = head;
    if (bucket.compare_exchange_strong(head, made_id, std::memory_order_acq_rel, std::memory_order_acquire)) {
      return true;
    }
  }
}

}  // namespace profagent
