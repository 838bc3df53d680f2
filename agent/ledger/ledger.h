// The writing side of the ledger: made once a process, then only ever added to.
//
// Context:   Create and Close in `bootstrap` and after fork. What adds a record or counts (PROF_SIGNAL_SAFE) in `hook`
//            and `signal`. No locks: a record is filled, then published by one CAS.
// Memory:    anonymous, or a file on tmpfs under `profagent run`. The region has its full size as address
//            space from the start and takes pages only as records come. Pages of a file are reserved before
//            they are touched (one madvise(MADV_POPULATE_WRITE) every 64 KiB of new records: the one system
//            call that a handler can make, and only in a file), because touching a page that a full tmpfs
//            cannot give is SIGBUS. Where that call does not exist or is forbidden, a smaller file is reserved
//            whole at the start. No descriptor stays open: the application may close any number it likes.
// Share:     an address space limit is the application's to live in too, so the ledger takes at most a
//            sixteenth of it. Of one that it sets itself later, too: then the region has a gap between its records
//            so far and those to come, which belongs to the application.
// When full: the record is not made, the caller gets 0, the loss is counted. What was recorded stays.
// fork:      a child is inert: an anonymous region is empty there (MADV_WIPEONFORK); a file's region is still
//            the parent's, and a wiped page beside it says so. A walk along a chain that a fork wiped ends.
//            The child calls Vacate, and Create for a ledger of its own. That one is in the same place, and its records begin
//            behind the parent's: a signal handler may have forked, and return into a hook that was recording. What that still
//            writes is in memory of ours, and in no record. (Not where KeepToLimit has made a gap.)
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
  // `size` is what PROFAGENT_MEMORY allows; less is taken where limits or the kernel forbid that much, down
  // to kLedgerMinSize. Below that: an error, and the ledger stays closed. An open ledger is closed first.
  Status CreateAnonymous(Bytes size);

  // The same in a new file (0600; must not exist). On any failure nothing is left behind, and the caller
  // creates an anonymous one and says so.
  Status CreateInFile(const char* path, Bytes size);

  // The application limits its address space (or its data) to so much from now on: gives back what a ledger made then would not
  // have taken, or in a process that cannot record all that holds no record. Once; after that it is small enough.
  void KeepToLimit(Bytes limit);

  // Unmaps the region; the file, if any, stays. Only when no thread of the process can be recording.
  void Close();

  // In the thread that is about to fork, a handler's perhaps.
  void BeforeFork();
  // In the child: what is the parent's is left to it. Closed, but for its memory, which stays: empty, and ours.
  void Vacate();

  // One sentence about what Create had to do without, to be said once; empty when all is as asked.
  std::string_view note() const { return note_.view(); }

  bool is_open() const { return base_ != nullptr && !vacant_; }
  // False: closed, or suspended, or this is a forked child that looks at its parent's ledger.
  PROF_ALWAYS_INLINE bool CanRecord() const {
    return base_ != nullptr &&
           __atomic_load_n(__atomic_load_n(&owner_mark_, __ATOMIC_RELAXED), __ATOMIC_RELAXED) != 0;
  }
  // Suspended or not, it is this process's own. False in a forked child, to which fork gave an empty one or, in a file, its
  // parent's.
  bool IsOwn() const {
    return base_ != nullptr &&
           (!in_file_ ? header()->version != 0 : owner_page_ == nullptr || *owner_page_ != 0);
  }
  // Until it is lifted nothing is added, so that nothing can need a page or a system call. Not for two threads at once.
  void Suspend(bool suspended);
  bool in_file() const { return in_file_; }
  LedgerHeader* header() const { return reinterpret_cast<LedgerHeader*>(base_); }

  // The id of an equal text, made when there is none. Texts are cut at 4 KiB. kNoText: full; that is counted with the samples lost.
  PROF_SIGNAL_SAFE TextId InternText(std::string_view text);

  // False: full, counted.
  PROF_SIGNAL_SAFE bool AddModule(const ModuleDescription& module);
  // nullptr: full; its samples will be counted.
  PROF_SIGNAL_SAFE ThreadRecord* AddThread(uint32_t tid, TextId name);

  // Equal stacks get the same id. kNoStack: full; the ticks that it was for are counted as kLedgerFull or
  // kNoSpace, so that what is kept and what is lost add up. Stacks are cut at kMaxStackRecord.
  PROF_SIGNAL_SAFE StackId InternStack(std::span<const Frame> frames, WalkEnd end, uint64_t ticks = 1);
  // False: full, counted.
  PROF_SIGNAL_SAFE bool AddCpuTicks(StackId stack, TextId thread_name, uint64_t ticks);

  // The site of that kind, made with all counts 0 when there is none. nullptr: full, counted.
  PROF_SIGNAL_SAFE HeapSiteRecord* FindHeapSite(StackId stack, Bytes size);
  PROF_SIGNAL_SAFE ContentionSiteRecord* FindContentionSite(ContentionKind kind, StackId stack, TextId lock);
  // A record of its own for the calling thread: tid is set, nothing else. nullptr: full, counted.
  PROF_SIGNAL_SAFE WaiterRecord* TakeWaiter(uint32_t tid);
  PROF_SIGNAL_SAFE void GiveWaiter(WaiterRecord* waiter);

  // Zeroed memory that no reader knows of yet, aligned to 64 bytes. nullptr: full; `loss` is counted once.
  PROF_SIGNAL_SAFE void* AllocateTable(Bytes size, Loss loss);

  template <class Record>
  Record* At(RecordId id) const {
    return reinterpret_cast<Record*>(base_ + id * kRecordUnit);
  }
  RecordId IdOf(const void* record) const {
    return static_cast<RecordId>((static_cast<const std::byte*>(record) - base_) / kRecordUnit);
  }
  PROF_SIGNAL_SAFE void Count(Loss loss, uint64_t times = 1);

  // For a hook that records much: what it will need next comes with one system call, not with a page fault each 4 KiB. Nothing
  // for a ledger that is small, or in a file, which is reserved before it is touched anyway.
  void PopulateAhead();

  // A ledger in a file, when nothing will be sampled any more (end of the process, exec): gives the pages back that hold
  // nothing, so that the ledgers of ten thousand short processes fit on tmpfs. Some 20 KiB stay of an empty one.
  void ReleaseUnused();
  // The exec failed: sampling goes on. False: the space is somebody else's by now; no stack may be interned.
  bool ReserveAgain();

  // The bytes so far, for a LedgerView.
  std::span<const std::byte> bytes() const;

 private:
  static constexpr uint64_t kReserveStep = 64 * 1024;  // bytes

  Status CreateInMemory(std::byte* base, uint64_t size);
  Status Format(std::byte* base, uint64_t size, uint64_t reserved);
  // What is to be allocated, zeroed. Where there is no room, `loss` is counted `lost` times.
  struct Place {
    uint64_t size;
    uint64_t alignment = kRecordUnit;
    uint64_t lost = 1;
    Loss loss = Loss::kLedgerFull;
  };
  // 0: full, counted.
  PROF_SIGNAL_SAFE RecordId Allocate(const Place& place);
  // Where a record is looked for: `near` takes the first `near_room` records, `own` the rest.
  struct Chains {
    std::atomic<RecordId>* near;
    std::atomic<RecordId>* own;
    uint32_t near_room;
    bool own_first;                       // `own` is looked into first
    std::atomic<uint8_t>* far = nullptr;  // set when a record goes to `own`
  };
  PROF_ALWAYS_INLINE Chains ChainsOf(const BucketArray& array, uint32_t hash);
  // The record that `same` holds for, or a new one, filled by `fill` before it is published. nullptr: full, counted.
  template <class Record, class Same, class Fill>
  PROF_ALWAYS_INLINE Record* FindOrMake(const Chains& chains, const Place& place, Same same, Fill fill);
  template <class Record>
  PROF_ALWAYS_INLINE void Publish(std::atomic<RecordId>& list, Record* record);
  PROF_SIGNAL_SAFE bool ReserveUpTo(uint64_t end);
  void GiveUnusedBack();
  uint64_t SampleBucketsStart() const;  // bytes from the start; up to first_record_
  PROF_ALWAYS_INLINE std::atomic<RecordId>* Heads(const BucketArray& array) const {
    return At<std::atomic<RecordId>>(array.first);
  }

  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  uint64_t first_record_ = 0;      // where records can begin
  uint64_t records_start_ = 0;     // where they do: behind those of the parent, if any
  uint64_t used_before_fork_ = 0;  // which ended there
  uint64_t handed_out_ = 0;        // no record ends behind it: known in a process whose header is wiped, too
  uint32_t own_made_ = 0;          // records in buckets of their own, about (FindOrMake)
  uint32_t free_waiters_ = 0;      // records that TakeWaiter may find, about
  uint64_t gap_start_ = 0, gap_end_ = 0;  // what KeepToLimit gave back: no longer ours to touch or to unmap
  const uint32_t* owner_mark_ = nullptr;  // in memory that fork wipes: 0 in a child
  const uint32_t* mark_aside_ = nullptr;  // of one that is suspended: its owner_mark_
  uint32_t* owner_page_ = nullptr;        // of a ledger in a file: the page that holds the mark
  uint64_t populated_ = 0;                // up to there PopulateAhead came
  bool in_file_ = false;
  bool vacant_ = false;
  // copies: the header may be wiped by fork
  BucketArray texts_{}, stacks_{}, cpu_sites_{}, heap_sites_{}, contention_sites_{};
  FixedText<160> note_;
};

}  // namespace profagent
