// The writing side of the ledger: made once a process, then only ever added to.
//
// Context:   Create and Open in `bootstrap` and after fork. InternText, AddModule, AddThread in `hook`;
// InternStack,
//            AddCpuTicks, Count in `signal` too. No locks: a record is filled, then published by one CAS.
// Memory:    anonymous, or a file on tmpfs under `profagent run`. The region has its full size as address
// space from
//            the start and takes pages only as records come. Pages of a file are reserved before they are
//            touched (one madvise(MADV_POPULATE_WRITE) every 64 KiB of new records: the one system call that
//            a handler can make, and only in a file), because touching a page that a full tmpfs cannot give
//            is SIGBUS. No descriptor stays open: the application may close any number it likes.
// When full: the record is not made, the caller gets 0, the loss is counted. What was recorded stays.
// fork:      an anonymous region is empty in the child (MADV_WIPEONFORK) and takes nothing until Create is
// called
//            again; a file's region is still the parent's, so the child must Close it before it records
//            anything.
#pragma once

#include <span>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/signal_safe.h"
#include "agent/base/units.h"
#include "agent/ledger/layout.h"

namespace profagent {

// RecordIds by what they name.
struct StackId {
  RecordId value = 0;
  constexpr bool operator==(const StackId&) const = default;
};
struct TextId {
  RecordId value = 0;
  constexpr bool operator==(const TextId&) const = default;
};
inline constexpr StackId kNoStack{};
inline constexpr TextId kNoText{};

struct ModuleDescription {
  ModuleId id;
  uint16_t flags;
  std::string_view path;
  std::span<const uint8_t> build_id;
  uint64_t load_bias, start, limit, text_start, text_limit, text_file_offset;
};

class Ledger {
 public:
  // `size` is what PROFAGENT_MEMORY allows; less is taken when the kernel refuses that much (RLIMIT_AS), down
  // to kLedgerMinSize. Below that: an error, and the ledger stays closed.
  Status CreateAnonymous(Bytes size);

  // The same in a new file (0600; must not exist). Falls back to less space under RLIMIT_FSIZE. On any
  // failure nothing is left behind, and the caller creates an anonymous one and says so.
  Status CreateInFile(const char* path, Bytes size);

  // Unmaps the region; the file, if any, stays. Only when no thread of the process can be recording.
  void Close();

  bool is_open() const { return base_ != nullptr; }
  bool in_file() const { return in_file_; }
  LedgerHeader* header() const { return reinterpret_cast<LedgerHeader*>(base_); }

  // The id of an equal text, made when there is none. Texts are cut at 4 KiB.
  PROF_SIGNAL_SAFE TextId InternText(std::string_view text);

  // False: full, counted.
  PROF_SIGNAL_SAFE bool AddModule(const ModuleDescription& module);
  // nullptr: full, counted.
  ThreadRecord* AddThread(uint32_t tid, TextId name);

  // Equal stacks get the same id. kNoStack: full, counted as kLedgerFull or kNoSpace.
  PROF_SIGNAL_SAFE StackId InternStack(std::span<const Frame> frames, WalkEnd end);
  // False: full, counted.
  PROF_SIGNAL_SAFE bool AddCpuTicks(StackId stack, TextId thread_name, uint64_t ticks);
  PROF_SIGNAL_SAFE void Count(Loss loss, uint64_t times = 1);

  // The bytes so far, for a LedgerView.
  std::span<const std::byte> bytes() const;

 private:
  Status Format(std::byte* base, uint64_t size, uint64_t reserved, bool in_file);
  // Zeroed bytes for a record, or 0.
  PROF_SIGNAL_SAFE RecordId Allocate(uint64_t size);
  PROF_SIGNAL_SAFE bool ReserveUpTo(uint64_t end);
  template <class Record>
  Record* At(RecordId id) const {
    return reinterpret_cast<Record*>(base_ + id * kRecordUnit);
  }
  std::atomic<RecordId>& Bucket(const BucketArray& array, uint32_t hash) const;

  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  bool in_file_ = false;
  BucketArray texts_{}, stacks_{}, cpu_sites_{};  // copies: the header may be wiped by fork under a reader
};

}  // namespace profagent
