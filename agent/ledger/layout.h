// The ledger's bytes: one memory region that holds everything recorded about one process.
//
// Context:   every one. Written by the application's threads, read by the same process, by `profagent run`
//            after the process was killed, or from a file. So: fixed layout, a version, offsets instead of
//            pointers.
// Shape:     header | bucket arrays | records. Records are handed out front to back and never freed or moved.
//            Each kind of record hangs in chains: a bucket (or a list head in the header) holds the newest
//            record's id, each record the id of the next older one. Every record starts with that id.
// Invariant: a record is complete before its id is published (release) and, but for the counters marked
//            atomic, never changes afterwards. A reader that follows ids (acquire) sees only complete records,
//            whatever moment the writer was killed at.
// Versions:  any change of a struct here, or of record_hash.h, raises kLedgerVersion. A reader refuses other
//            versions by name.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/ledger/frame.h"
#include "agent/ledger/losses.h"

namespace profagent {

inline constexpr uint64_t kLedgerMagic = 0x31474445'4c464f52;  // "ROFLEDG1"
inline constexpr uint32_t kLedgerVersion = 6;

// Where a record stands: its offset from the ledger's first byte, in units of 8 bytes. 0: none.
using RecordId = uint32_t;
inline constexpr uint64_t kRecordUnit = 8;
constexpr uint64_t RoundUp(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

inline constexpr uint64_t kLedgerMinSize = uint64_t{1} << 20;
inline constexpr uint64_t kLedgerMaxSize = (uint64_t{1} << 32) * kRecordUnit;
inline constexpr uint64_t kLedgerDefaultSize = uint64_t{256} << 20;

static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == 8);
static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4);

enum class CpuEngine : uint32_t { kNone = 0, kThreadTimers = 1, kProcessTimer = 2, kPerfEvents = 3 };

// How the process came to its end, as far as it could write it down itself. A ledger that still says kRunning
// after its process is gone belonged to one that was killed. kSandboxed: it went on, but into a sandbox in which the agent
// could do nothing any more.
enum class ProcessEnd : uint32_t { kRunning = 0, kExited = 1, kExecuted = 2, kSignalled = 3, kSandboxed = 4 };

// The chains that are looked up by hash. `first` is the RecordId of an array of 1 << log2_count bucket heads. A record is in
// the bucket of its own, the lowest bits of its hash, or in its near one, fewer bits: the first buckets of a large array are
// near ones, too, so that a few records touch one page of it.
struct BucketArray {
  static constexpr uint32_t kLog2Near = 10;  // of 4 bytes: a page

  RecordId first;
  uint32_t log2_count;

  uint32_t count() const { return uint32_t{1} << log2_count; }
  uint32_t near_count() const { return uint32_t{1} << (log2_count < kLog2Near ? log2_count : kLog2Near); }
  uint32_t Own(uint32_t hash) const { return hash & (count() - 1); }
  uint32_t Near(uint32_t hash) const { return hash & (near_count() - 1); }
};

inline constexpr uint32_t kLiveLevels = 10;

struct LedgerHeader {
  uint64_t magic;  // written last, with release: before that there is no ledger here
  uint32_t version;
  uint32_t header_size;
  uint64_t size;                   // bytes of the whole region
  std::atomic<uint64_t> used;      // bytes handed out so far, header included; may pass `size` when full
  std::atomic<uint64_t> reserved;  // bytes that may be touched without SIGBUS; only grows

  // The process.
  uint32_t pid;
  uint32_t parent_pid;
  uint64_t start_realtime_ns;   // of the agent in this process image
  uint64_t start_monotonic_ns;  // the same moment
  RecordId executable;          // TextRecord: absolute path of the program
  RecordId program;             // its last component: what %e stands for
  RecordId command_line;        // arguments joined by spaces, cut at 4 KiB
  RecordId working_directory;   // at start: relative module paths refer to it
  RecordId agent_version;
  std::atomic<uint32_t> process_end;  // ProcessEnd

  // CPU profile. hz 0: none was taken.
  std::atomic<uint32_t> cpu_hz;
  std::atomic<uint32_t> cpu_engine;  // CpuEngine
  std::atomic<uint64_t> cpu_start_realtime_ns;
  std::atomic<uint64_t> cpu_start_monotonic_ns;
  std::atomic<uint64_t> cpu_stop_monotonic_ns;  // 0 while running
  std::atomic<uint64_t> cpu_ticks;              // sum of all weights, lost samples included; counted first
  // CPU time of the handler itself; summed only at PROFAGENT_VERBOSE=2, which scripts/bench uses.
  std::atomic<uint64_t> handler_calls;
  std::atomic<uint64_t> handler_ns;

  // Frames a stack; a heap stack is recorded a few frames deeper (kHiddenLeafRoom) and cut when it is encoded.
  uint32_t max_depth;

  // 1: some record is in a bucket of its own; 0: a reader need not look at (and so get pages for) more than the near ones.
  std::atomic<uint8_t> far_stacks;
  std::atomic<uint8_t> far_heap_sites;
  uint16_t spare_word;

  // Block and mutex profiles. A rate of 0: not taken.
  std::atomic<uint64_t> block_rate;      // ns
  std::atomic<uint64_t> mutex_fraction;  // 1 in n

  // Heap profile. 0: not taken.
  std::atomic<uint64_t> heap_rate;     // bytes a sample
  std::atomic<uint64_t> heap_inuse;    // estimate of live bytes: HeapSiteRecord::weight of each live block
  std::atomic<uint64_t> heap_highest;  // the most that heap_inuse was when it last began to fall
  // The number of the fall from that height; what a site held then is in it (agent/ledger/heap_sites.h).
  std::atomic<uint64_t> heap_peak;
  std::atomic<uint64_t> heap_at_peak;  // 1: heap_inuse was never higher than now

  std::atomic<uint64_t> losses[kLossSlots];

  std::atomic<RecordId> modules;  // ModuleRecord list, newest first
  std::atomic<RecordId> threads;  // ThreadRecord list, newest first
  std::atomic<RecordId> waiters;  // WaiterRecord list, newest first
  RecordId spare_id;
  BucketArray texts;
  BucketArray stacks;
  BucketArray cpu_sites;
  BucketArray heap_sites;
  BucketArray contention_sites;
  // The index of live blocks, one bucket array a level, made when the one before it is full (live_allocations.h).
  std::atomic<RecordId> live_levels[kLiveLevels];
  std::atomic<uint64_t> end_monotonic_ns;  // when process_end was noted; 0 while running
  uint64_t spare[15];                      // 0; later kinds of profiles put their tables here
};
static_assert(sizeof(LedgerHeader) % kRecordUnit == 0);
static_assert(sizeof(LedgerHeader) == 688, "another process maps this layout: raise kLedgerVersion");

// A string, once. `size` bytes follow, then a null byte.
struct TextRecord {
  RecordId next;
  uint32_t hash;
  uint32_t size;
  uint32_t spare;
  char* data() { return reinterpret_cast<char*>(this + 1); }
  const char* data() const { return reinterpret_cast<const char*>(this + 1); }
};
static_assert(sizeof(TextRecord) == 16);

inline constexpr uint32_t kMaxBuildIdSize = 32;

enum ModuleFlags : uint16_t {
  kModuleIsProgram = 1,
  kModuleIsVdso = 2,
  kModuleIsAgent = 4,
  kModuleIsLoader = 8,
  // A further executable PT_LOAD of `id`, which another record describes in full: text_* say which.
  kModuleMoreText = 16
};

// One load of one object. address in memory = load_bias + address in the file's numbering.
struct ModuleRecord {
  RecordId next;
  ModuleId id;
  uint16_t flags;  // ModuleFlags
  RecordId path;   // TextRecord; may be relative to LedgerHeader::working_directory; "[vdso]"
  uint32_t build_id_size;
  uint8_t build_id[kMaxBuildIdSize];
  uint64_t load_bias;
  uint64_t start;  // of all that is mapped of the object, addresses in memory
  uint64_t limit;
  uint64_t text_start;  // an executable PT_LOAD, the first: what profile.proto's Mapping describes
  uint64_t text_limit;
  uint64_t text_file_offset;
};
static_assert(sizeof(ModuleRecord) == 96);

// The newest thread of a slot (agent/capture/thread_slots.h), which was given a timer (or could not be): a program that makes
// threads for ever makes no more records than it ever had threads at once.
struct ThreadRecord {
  RecordId next;
  uint32_t tid;
  std::atomic<RecordId> name;  // TextRecord: its name now
  uint32_t spare;
};
static_assert(sizeof(ThreadRecord) == 16);

// A call stack, once; leaf first. `depth` frames follow. Two records may hold the same stack when two threads
// met it in the same instant: readers add up by content.
struct StackRecord {
  RecordId next;
  uint32_t hash;
  uint16_t depth;
  WalkEnd end;
  uint8_t spare;
  std::atomic<RecordId>
      heap_sites;  // the first few HeapSiteRecords of this stack; the others hang in LedgerHeader::heap_sites
  Frame* frames() { return reinterpret_cast<Frame*>(this + 1); }
  const Frame* frames() const { return reinterpret_cast<const Frame*>(this + 1); }
};
static_assert(sizeof(StackRecord) == 16);

// CPU time of one (stack, thread name).
struct CpuSiteRecord {
  RecordId next;
  RecordId stack;  // StackRecord
  RecordId name;   // TextRecord: the thread's name; 0: none known
  uint32_t spare;
  std::atomic<uint64_t> ticks;  // sampling periods: one a signal, plus its overruns
};
static_assert(sizeof(CpuSiteRecord) == 24);

// Blocks of one (stack, size). Go's bucket, so that every value of a heap profile is a count times `size`. The writer puts each
// into a cache line of its own; not a property of the type, for in a damaged ledger an id may lead anywhere.
inline constexpr uint32_t kHeapSiteAlignment = 64;
struct HeapSiteRecord {
  RecordId next;
  RecordId stack;  // StackRecord; begins with the caller of the allocation function
  uint64_t size;   // bytes of each block, as it was asked for
  // What one sampled block stands for: size / (1 - exp(-size / rate)) bytes.
  uint64_t weight;
  std::atomic<uint64_t> allocations;  // sampled
  std::atomic<uint64_t> frees;        // of those
  // Blocks that were live when heap_peak was this number; those that are live now when it is older.
  std::atomic<uint64_t> peak;
  std::atomic<uint64_t> peak_objects;
  uint64_t spare;
};
static_assert(sizeof(HeapSiteRecord) == 64);

enum class ContentionKind : uint32_t { kBlock = 0, kMutex = 1 };

// Waiting of one (kind, stack, lock): a block profile's stack is the waiter's, a mutex profile's the unlocker's. The
// values are unbiased already, as Go's.
struct ContentionSiteRecord {
  RecordId next;
  RecordId stack;  // StackRecord; its leaf is the primitive (PrimitiveFrame)
  RecordId lock;   // TextRecord: PROFAGENT_LOCK_LABELS; 0: none
  ContentionKind kind;
  std::atomic<uint64_t> count;  // in units of 1 / kContentionUnit
  std::atomic<uint64_t> nanos;
};
static_assert(sizeof(ContentionSiteRecord) == 32);
inline constexpr uint64_t kContentionUnit = 1 << 16;

// A thread's wait that its site's counters do not hold yet: it is still going on, or it has ended and its owner was not
// at leisure since to add it (agent/capture/contention.h). Given back and taken again.
struct WaiterRecord {
  RecordId next;
  std::atomic<RecordId> site;  // ContentionSiteRecord of kind kBlock; 0: no wait
  std::atomic<uint32_t> tid;   // of its owner; 0: free
  uint32_t spare;
  std::atomic<uint64_t> since_ns;      // CLOCK_MONOTONIC
  std::atomic<uint64_t> threshold_ns;  // a wait of at least this is sampled: uniform in [0, block_rate)
  std::atomic<uint64_t> waited_ns;     // how long it was; 0: it goes on
};
static_assert(sizeof(WaiterRecord) == 40);

// Chains of any kind are followed by the same code.
static_assert(offsetof(ModuleRecord, next) == 0 && offsetof(ThreadRecord, next) == 0 &&
              offsetof(TextRecord, next) == 0 && offsetof(StackRecord, next) == 0 &&
              offsetof(CpuSiteRecord, next) == 0 && offsetof(HeapSiteRecord, next) == 0 &&
              offsetof(ContentionSiteRecord, next) == 0 && offsetof(WaiterRecord, next) == 0);

}  // namespace profagent
