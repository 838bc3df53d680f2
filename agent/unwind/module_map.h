// From a code address to the loaded object that holds it, and to the object's place in the ledger.
//
// Context:   Find in `signal` and `hook`; Start in `bootstrap`; AfterClose in `hook`; Restart in the child of a
//            fork.
// How:       What is loaded at Start is entered there, the program first. Those objects stay (but for one that a library's
//            constructor had opened), so their text is looked up in a sorted array. All else is asked of _dl_find_object (glibc
//            2.35: lock-free and async-signal-safe); an object that it names for the first time gets an entry here and a
//            ModuleRecord in the ledger, by the thread that met it.
// Holes:     an object's segments need not touch (page sizes of 2 MiB, linker scripts). In the holes of a program anything
//            may be mapped, as a JIT compiler does to be near it: what counts are the segments, not the range.
// Ids:       one a load. A library that is closed gives its id up; a different one at the same address gets a
//            new one. The same file at the same address again gets its old one back: its record would be the
//            same in every field, and a program that opens and closes a plugin for ever does not fill the table.
// Invariant: an entry is complete before its chain holds it (release), and its contents never change afterwards
//            but for `live`, `recorded`, and the names by which a reopened library is known.
// When full: after 8190 different loads. Code of further ones counts as code without an object (absolute
//            addresses, frame pointers), and as Loss::kModuleTableFull at each lookup.
// fork:      entries stay; a thread that was just entering a module is not in the child, its id is lost. Those that live and are
//            still loaded go into the child's ledger at once, closed ones when they are reopened.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/eh_frame.h"
#include "agent/unwind/elf_image.h"
#include "agent/unwind/memory_range.h"
#include "agent/unwind/table_index.h"

struct dl_find_object;
struct dl_phdr_info;
struct link_map;

namespace profagent {

enum class IndexState : uint8_t { kNone, kBuilding, kReady, kRefused };

struct alignas(64) Module {
  ModuleId id = ModuleId::kNone;
  std::atomic<bool> permanent{false};  // loaded at Start, and behind every dlclose since
  std::atomic<bool> live{false};       // complete, and not closed since. release: the other fields
  std::atomic<bool> recorded{false};   // in this process' ledger, which a fork's child begins anew
  uint16_t next = 0;                   // id of the next older entry of the same bucket
  std::atomic<const EhFrameTables*> tables{nullptr};  // see ModuleMap::TablesOf. release: what it points to
  std::atomic<bool> own_tables_taken{false};          // by the first who reads them
  EhFrameTables own_tables;
  TableIndex index;
  std::atomic<IndexState> index_state{IndexState::kNone};  // release by kReady: the index
  std::atomic<uint32_t> decodings{0};
  MemoryRange object;  // from the first segment's start to the last one's end; between them may be holes
  uintptr_t load_bias = 0;
  uintptr_t eh_frame_header = 0;
  std::span<const Elf64_Phdr> headers;
  uint64_t fingerprint = 0;  // of addresses, path, program headers and build-id
  // How a lookup knows that this is still the object it was. A reopened one has a new link_map.
  std::atomic<const link_map*> map{nullptr};
  std::atomic<const char*> name{nullptr};

  // Whether one of its segments with these flags (PF_X, ...; 0: any) holds the address.
  PROF_SIGNAL_SAFE bool HasAt(uintptr_t address, Elf64_Word flags) const;
};

class ModuleMap {
 public:
  Status Start(Ledger* ledger);
  void Stop();
  // In the child of a fork. False: some libraries are closed, or may be; what was remembered of them must be forgotten.
  [[nodiscard]] bool Restart(Ledger* ledger);

  // The object in whose code `address` is; nullptr: none, or the table is full, or it may just be closed. To be
  // called, and its result used, while a Reader lives.
  PROF_SIGNAL_SAFE const Module* Find(uintptr_t address);
  // The same for any of an object's segments, data too.
  PROF_SIGNAL_SAFE const Module* FindLoaded(uintptr_t address);

  // Where the module's unwind tables are; an empty `segment`: it has none. Read when they are first asked for: a program
  // starts with many objects of which most are never met, and each costs it a page fault.
  PROF_ALWAYS_INLINE const EhFrameTables& TablesOf(const Module& module) {
    const EhFrameTables* tables = module.tables.load(std::memory_order_acquire);
    return tables != nullptr ? *tables : ReadTables(&modules_[static_cast<uint16_t>(module.id)]);
  }

  // The index over the module's table; nullptr: it has none (yet). Counts the decodings, and builds the index when
  // it is worth while. `tables`: what TablesOf said.
  PROF_ALWAYS_INLINE const TableIndex* IndexOf(const Module& module, const EhFrameTables& tables) {
    if (module.index_state.load(std::memory_order_acquire) == IndexState::kReady) return &module.index;
    if (tables.table_count >= TableIndex::kSmallTable)
      CountDecoding(&modules_[static_cast<uint16_t>(module.id)], tables);
    return nullptr;
  }

  // Address minus this is the address in the object's own numbering.
  PROF_ALWAYS_INLINE uintptr_t load_bias(ModuleId id) const { return load_bias_[static_cast<uint16_t>(id)]; }

  // While a library is being closed, objects that could be it are not looked into (their tables may go away
  // under the reader), and the closing waits until nobody does. Between the two, Find answers nullptr for
  // objects that came after Start, and counts Loss::kLibraryUnloaded.
  void BeforeClose();
  void AfterClose();

  // Brackets every use of a Module that Find returned.
  class Reader {
   public:
    PROF_ALWAYS_INLINE explicit Reader(ModuleMap* map) : map_(map) {
      map_->readers_.fetch_add(1, std::memory_order_seq_cst);
    }
    PROF_ALWAYS_INLINE ~Reader() { map_->readers_.fetch_sub(1, std::memory_order_release); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

   private:
    ModuleMap* map_;
  };

 private:
  static constexpr uint32_t kBuckets = 1024;
  static constexpr uint64_t kIndexRoom = uint64_t{1} << 18;  // for 4 million entries; touched as far as used
  static constexpr uint32_t kMaxModules = static_cast<uint32_t>(ModuleId::kMaxLoaded);

  PROF_SIGNAL_SAFE __attribute__((noinline)) const EhFrameTables& ReadTables(Module* module);
  PROF_SIGNAL_SAFE void CountDecoding(Module* module, const EhFrameTables& tables);
  PROF_SIGNAL_SAFE const Module* FindPermanent(uintptr_t address) const;
  PROF_SIGNAL_SAFE const Module* FindObject(uintptr_t address);
  void EnterPermanentText(const Module& module);
  PROF_SIGNAL_SAFE Module* Search(uint16_t from, uint16_t until, const dl_find_object& found);
  PROF_SIGNAL_SAFE const Module* Enter(const dl_find_object& found, std::span<const Elf64_Phdr> headers,
                                       bool permanent);
  PROF_SIGNAL_SAFE bool FindByLoader(uintptr_t address, dl_find_object* found) const;
  PROF_SIGNAL_SAFE Module* Reopen(const dl_find_object& found, uint64_t fingerprint, const ElfImage& image);
  PROF_SIGNAL_SAFE std::string_view PathOf(const MemoryRange& object, const char* name) const;
  PROF_SIGNAL_SAFE uint16_t FlagsOf(const MemoryRange& object, const ElfImage& image) const;
  bool IsLoaded(const Module& module) const;
  PROF_SIGNAL_SAFE void RecordOnce(Module* module, const ElfImage& image);
  PROF_SIGNAL_SAFE void Record(const Module& module, const ElfImage& image);
  PROF_ALWAYS_INLINE std::atomic<uint16_t>& Bucket(uintptr_t start) {
    return storage_->buckets[start / 4096 % kBuckets];
  }
  static int EnterLoaded(dl_phdr_info* info, size_t size, void* self);

  // The executable segments of what was loaded at Start, by address; complete before Start returns.
  struct PermanentText {
    MemoryRange text;
    ModuleId id;
  };
  static constexpr size_t kMaxPermanent = 512;
  static constexpr size_t kPathSize = 4096;
  // One for each walk that reads a module's tables while another one does. Beyond that, code counts as code without CFI.
  static constexpr uint32_t kMaxSpareTables = 1024;

  // Mapped by Start, touched as far as it is used: zeros are valid everywhere. What a small program uses lies on two pages: the
  // end of the permanent text, the buckets and the first biases; the end of the path and the first modules.
  struct Storage {
    char unused[256];                         // moves what follows off the pages' borders
    PermanentText permanent[kMaxPermanent];   // the last permanent_count_ of them
    std::atomic<uint16_t> buckets[kBuckets];  // newest entry by start address
    uintptr_t load_bias[kMaxModules + 1];     // by id; [0] is 0
    char program_path[kPathSize];             // at its end, a null byte behind it
    Module modules[kMaxModules + 1];          // by id
    uint32_t index_room[kIndexRoom];          // what indices are made of
    EhFrameTables spare_tables[kMaxSpareTables];
  };
  PROF_ALWAYS_INLINE PermanentText* permanent_begin() const {
    return storage_->permanent + (kMaxPermanent - permanent_count_);
  }

  Ledger* ledger_ = nullptr;
  Storage* storage_ = nullptr;
  Module* modules_ = nullptr;       // in storage_
  uintptr_t* load_bias_ = nullptr;  // in storage_
  const char* program_path_ = "";   // in storage_
  size_t permanent_count_ = 0;
  std::atomic<uint64_t> index_used_{0};
  std::atomic<uint32_t> spare_tables_used_{0};
  std::atomic<uint32_t> last_id_{0};  // ids handed out; may pass kMaxModules when full
  std::atomic<uint32_t> readers_{0};  // walks that look into tables right now
  std::atomic<uint32_t> closing_{0};  // dlclose calls under way
  uintptr_t vdso_ = 0;                // where these objects begin
  uintptr_t loader_ = 0;
  MemoryRange program_;
  const link_map* program_map_ = nullptr;
};

}  // namespace profagent
