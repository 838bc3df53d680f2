#include "agent/unwind/module_map.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>

#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"
#include "agent/ledger/ledger_view.h"
#include "agent/ledger/record_hash.h"

namespace profagent {
namespace {

// FNV-1a, as in the ledger.
PROF_SIGNAL_SAFE uint64_t HashBytes(uint64_t hash, const void* bytes, size_t size) {
  auto* at = static_cast<const uint8_t*>(bytes);
  for (size_t i = 0; i < size; ++i) hash = (hash ^ at[i]) * kHashPrime;
  return hash;
}

PROF_ALWAYS_INLINE MemoryRange ObjectOf(const dl_find_object& found) {
  return {reinterpret_cast<uintptr_t>(found.dlfo_map_start), reinterpret_cast<uintptr_t>(found.dlfo_map_end)};
}

// An address of this very library (or of the test program that this is linked into).
const char kOwnAddress = 0;

constexpr EhFrameTables kNoTables{};

// dlclose must not hang because a thread in a walk was taken off its processor.
constexpr int kMaxYields = 10'000;

// Whether the loader's answer is about the object that this entry was made for.
PROF_ALWAYS_INLINE bool Shows(const Module& module, const dl_find_object& found) {
  return module.object.start == reinterpret_cast<uintptr_t>(found.dlfo_map_start) &&
         module.object.limit == reinterpret_cast<uintptr_t>(found.dlfo_map_end) &&
         module.eh_frame_header == reinterpret_cast<uintptr_t>(found.dlfo_eh_frame) &&
         module.map.load(std::memory_order_relaxed) == found.dlfo_link_map &&
         module.name.load(std::memory_order_relaxed) == found.dlfo_link_map->l_name;
}

}  // namespace

Status ModuleMap::Start(Ledger* ledger) {
  long memory = MapSparse(sizeof(Storage));
  if (int code = SyscallError(memory); code != 0) {
    Error error = Error::Of("no memory for the table of loaded objects (", sizeof(Storage) / 1024, " KiB)");
    error.code = code;
    return error;
  }
  storage_ = reinterpret_cast<Storage*>(memory);
  modules_ = storage_->modules;
  load_bias_ = storage_->load_bias;
  ledger_ = ledger;
  vdso_ = getauxval(AT_SYSINFO_EHDR);
  loader_ = getauxval(AT_BASE);
  Result<LedgerView> view = LedgerView::Over(ledger->bytes());
  std::string_view name = view ? view->Text(ledger->header()->executable) : std::string_view();
  if (!name.empty() && name.size() < kPathSize) {
    char* path = storage_->program_path + (kPathSize - 1 - name.size());  // a null byte is there
    std::memcpy(path, name.data(), name.size());
    program_path_ = path;
  }
  dl_iterate_phdr(EnterLoaded, this);
  return Done{};
}

void ModuleMap::Stop() {
  if (storage_ == nullptr) return;
  RawSyscall(SYS_munmap, storage_, sizeof(Storage));
  storage_ = nullptr;
  program_path_ = "";
  permanent_count_ = 0;
  index_used_.store(0, std::memory_order_relaxed);
  spare_tables_used_.store(0, std::memory_order_relaxed);
  last_id_.store(0, std::memory_order_relaxed);
  program_ = {};
  program_map_ = nullptr;
}

int ModuleMap::EnterLoaded(dl_phdr_info* info, size_t, void* self) {
  auto* map = static_cast<ModuleMap*>(self);
  std::span<const Elf64_Phdr> headers{info->dlpi_phdr, info->dlpi_phnum};
  bool is_program = map->program_.empty();  // the loader names it first
  if (is_program) map->program_ = RangeOf(headers, info->dlpi_addr);
  for (const Elf64_Phdr& header : headers) {
    dl_find_object found;
    if (header.p_type != PT_LOAD || !map->FindByLoader(info->dlpi_addr + header.p_vaddr, &found)) continue;
    if (is_program) {
      map->program_map_ = found.dlfo_link_map;
      map->FindByLoader(info->dlpi_addr + header.p_vaddr, &found);
    }
    if (const Module* module = map->Enter(found, headers, true); module != nullptr) {
      map->EnterPermanentText(*module);
    }
    break;
  }
  return 0;
}

bool ModuleMap::Restart(Ledger* ledger) {
  ledger_ = ledger;
  readers_.store(0, std::memory_order_relaxed);  // threads that are not in the child
  // By a thread that is not in the child: what it was closing may be unmapped already.
  bool closing = closing_.exchange(0, std::memory_order_relaxed) != 0;
  bool all_there = true;
  uint32_t last = last_id_.load(std::memory_order_relaxed);
  for (uint32_t id = 1; id <= last && id <= kMaxModules; ++id) {
    Module& module = modules_[id];
    IndexState building = IndexState::kBuilding;  // by a thread that is not in the child
    module.index_state.compare_exchange_strong(building, IndexState::kRefused, std::memory_order_relaxed);
    module.recorded.store(false, std::memory_order_relaxed);
    if (!module.live.load(std::memory_order_acquire)) continue;
    if (!module.permanent && (closing || !IsLoaded(module))) {
      module.live.store(false, std::memory_order_relaxed);
      all_there = false;
      continue;
    }
    ElfImage image;
    ReadElfImage(module.object, module.load_bias, module.headers, &image);
    RecordOnce(&module, image);
  }
  return all_there;
}

// libc closes libraries of its own (iconv's) past our dlclose: such an entry lives on, over memory that is gone.
bool ModuleMap::IsLoaded(const Module& module) const {
  dl_find_object found;
  return FindByLoader(module.object.start, &found) && Shows(module, found);
}

// Two who read at once (a handler in the middle of a hook's walk, too) write to different places, and one of them is kept.
const EhFrameTables& ModuleMap::ReadTables(Module* module) {
  EhFrameTables* tables = &module->own_tables;
  if (module->own_tables_taken.exchange(true, std::memory_order_relaxed)) {
    uint32_t spare = spare_tables_used_.fetch_add(1, std::memory_order_relaxed);
    if (spare >= kMaxSpareTables) return kNoTables;
    tables = &storage_->spare_tables[spare];
  }
  if (module->eh_frame_header != 0) {
    ElfImage image;
    ReadElfImage(module->object, module->load_bias, module->headers, &image);
    *tables = ReadEhFrameHeader(module->eh_frame_header, image.readable, image.readable_count,
                                image.code[0].range.start);
  }
  const EhFrameTables* first = nullptr;
  module->tables.compare_exchange_strong(first, tables, std::memory_order_acq_rel, std::memory_order_acquire);
  return first != nullptr ? *first : *tables;
}

void ModuleMap::CountDecoding(Module* module, const EhFrameTables& tables) {
  if (module->decodings.fetch_add(1, std::memory_order_relaxed) < TableIndex::kThreshold) return;
  IndexState none = IndexState::kNone;
  if (!module->index_state.compare_exchange_strong(none, IndexState::kBuilding, std::memory_order_relaxed))
    return;
  IndexState state = IndexState::kRefused;
  uint64_t size = TableIndex::SizeFor(tables);
  if (tables.table_count <= TableIndex::kLargestTable) {
    uint64_t at = index_used_.fetch_add(size, std::memory_order_relaxed);
    if (at + size <= kIndexRoom && module->index.Build(tables, storage_->index_room + at)) {
      state = IndexState::kReady;
    }
  }
  module->index_state.store(state, std::memory_order_release);
}

void ModuleMap::EnterPermanentText(const Module& module) {
  ElfImage image;
  ReadElfImage(module.object, module.load_bias, module.headers, &image);
  for (const CodeSegment& code : image.code_segments()) {
    if (permanent_count_ == kMaxPermanent) return;
    ++permanent_count_;
    PermanentText* at = permanent_begin();  // free
    for (; at + 1 != std::end(storage_->permanent) && at[1].text.start < code.range.start; ++at) *at = at[1];
    *at = {code.range, module.id};
  }
}

const Module* ModuleMap::FindPermanent(uintptr_t address) const {
  const PermanentText* permanent = permanent_begin();
  size_t low = 0, high = permanent_count_;
  while (low < high) {  // those before `low` begin at or before the address
    size_t middle = low + (high - low) / 2;
    if (permanent[middle].text.start <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || !permanent[low - 1].text.Holds(address, 1)) return nullptr;
  const Module& module = modules_[static_cast<uint16_t>(permanent[low - 1].id)];
  return module.permanent.load(std::memory_order_relaxed) ? &module : nullptr;
}

const Module* ModuleMap::Find(uintptr_t address) {
  if (const Module* permanent = FindPermanent(address); permanent != nullptr) return permanent;
  const Module* module = FindObject(address);
  return module != nullptr && module->HasAt(address, PF_X) ? module : nullptr;
}

const Module* ModuleMap::FindLoaded(uintptr_t address) {
  const Module* module = FindObject(address);
  return module != nullptr && module->HasAt(address, 0) ? module : nullptr;
}

// What the loader knows of the address. Of a program with holes it shows each segment as an object of its own.
bool ModuleMap::FindByLoader(uintptr_t address, dl_find_object* found) const {
  if (_dl_find_object(reinterpret_cast<void*>(address), found) != 0) return false;
  if (found->dlfo_link_map == program_map_) {
    found->dlfo_map_start = reinterpret_cast<void*>(program_.start);
    found->dlfo_map_end = reinterpret_cast<void*>(program_.limit);
  }
  return true;
}

// The object in whose range the address is, be it in one of its segments or in a hole.
const Module* ModuleMap::FindObject(uintptr_t address) {
  dl_find_object found;
  if (!FindByLoader(address, &found)) return nullptr;
  uint16_t newest = Bucket(ObjectOf(found).start).load(std::memory_order_acquire);
  const Module* module = Search(newest, 0, found);
  if (module == nullptr || !module->permanent) {
    // seq_cst: either this sees the closing, or BeforeClose sees our Reader.
    if (closing_.load(std::memory_order_seq_cst) != 0) {
      ledger_->Count(Loss::kLibraryUnloaded);
      return nullptr;
    }
  }
  return module != nullptr ? module : Enter(found, MappedProgramHeaders(ObjectOf(found)), false);
}

// The live entry of `found` in a chain, down to (not including) `until`.
Module* ModuleMap::Search(uint16_t from, uint16_t until, const dl_find_object& found) {
  for (uint16_t index = from; index != until; index = modules_[index].next) {
    Module& module = modules_[index];
    if (module.live.load(std::memory_order_acquire) && Shows(module, found)) return &module;
  }
  return nullptr;
}

const Module* ModuleMap::Enter(const dl_find_object& found, std::span<const Elf64_Phdr> headers,
                               bool permanent) {
  MemoryRange object = ObjectOf(found);
  uintptr_t load_bias = found.dlfo_link_map->l_addr;
  const char* name = found.dlfo_link_map->l_name;
  ElfImage image;
  ReadElfImage(object, load_bias, headers, &image);
  uint64_t fingerprint = HashBytes(kHashStart, &object, sizeof object);
  fingerprint = HashBytes(fingerprint, headers.data(), headers.size_bytes());
  fingerprint = HashBytes(fingerprint, image.build_id.data(), image.build_id.size());
  std::string_view path = PathOf(object, name);
  fingerprint = HashBytes(fingerprint, path.data(), path.size());
  if (Module* old = Reopen(found, fingerprint, image); old != nullptr) return old;

  // Looked at first, so that the ids do not grow for ever once the table is full.
  uint32_t id = last_id_.load(std::memory_order_relaxed) + 1;
  if (id <= kMaxModules) id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (id > kMaxModules) {
    ledger_->Count(Loss::kModuleTableFull);
    return nullptr;
  }
  Module& module = modules_[id];
  module.object = object;
  module.load_bias = load_bias;
  module.eh_frame_header = reinterpret_cast<uintptr_t>(found.dlfo_eh_frame);
  module.headers = headers;
  module.fingerprint = fingerprint;
  module.map.store(found.dlfo_link_map, std::memory_order_relaxed);
  module.name.store(name, std::memory_order_relaxed);
  module.id = static_cast<ModuleId>(id);
  module.permanent.store(permanent, std::memory_order_relaxed);
  load_bias_[id] = load_bias;
  RecordOnce(&module, image);
  module.live.store(true, std::memory_order_release);

  auto& bucket = Bucket(object.start);
  uint16_t seen = 0;  // everything from here on down the chain was compared already
  uint16_t head = bucket.load(std::memory_order_acquire);
  for (;;) {
    // Another thread may have entered it meanwhile. Then our id names nothing, and its record does no harm.
    if (Module* other = Search(head, seen, found); other != nullptr) return other;
    seen = head;
    module.next = head;
    if (bucket.compare_exchange_strong(head, static_cast<uint16_t>(id), std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      return &module;
    }
  }
}

// A closed entry whose record would be the same: it lives again.
Module* ModuleMap::Reopen(const dl_find_object& found, uint64_t fingerprint, const ElfImage& image) {
  uint16_t index = Bucket(ObjectOf(found).start).load(std::memory_order_acquire);
  for (; index != 0; index = modules_[index].next) {
    Module& module = modules_[index];
    if (module.fingerprint != fingerprint || module.live.load(std::memory_order_acquire)) continue;
    module.map.store(found.dlfo_link_map, std::memory_order_relaxed);
    module.name.store(found.dlfo_link_map->l_name, std::memory_order_relaxed);
    RecordOnce(&module, image);
    module.live.store(true, std::memory_order_release);
    return &module;
  }
  return nullptr;
}

// Where its program headers were not found, all of the object counts.
bool Module::HasAt(uintptr_t address, Elf64_Word flags) const {
  return headers.empty() || !SegmentAt(address, load_bias, headers, flags).empty();
}

std::string_view ModuleMap::PathOf(const MemoryRange& object, const char* name) const {
  if (object.start == vdso_) return "[vdso]";
  if (object.start == program_.start && program_path_[0] != '\0') return program_path_;
  return name != nullptr ? name : "";
}

uint16_t ModuleMap::FlagsOf(const MemoryRange& object, const ElfImage& image) const {
  uint16_t flags = 0;
  if (object.start == program_.start) flags |= kModuleIsProgram;
  if (object.start == vdso_) flags |= kModuleIsVdso;
  if (object.start == loader_) flags |= kModuleIsLoader;
  if (image.CanRead(reinterpret_cast<uintptr_t>(&kOwnAddress), 1)) flags |= kModuleIsAgent;
  return flags;
}

void ModuleMap::RecordOnce(Module* module, const ElfImage& image) {
  if (!module->recorded.exchange(true, std::memory_order_relaxed)) Record(*module, image);
}

void ModuleMap::Record(const Module& module, const ElfImage& image) {
  ModuleDescription description{
      .id = module.id,
      .flags = FlagsOf(module.object, image),
      .path = PathOf(module.object, module.name.load(std::memory_order_relaxed)),
      .build_id = image.build_id,
      .load_bias = module.load_bias,
      .start = module.object.start,
      .limit = module.object.limit,
      .text_start = image.code[0].range.start,
      .text_limit = image.code[0].range.limit,
      .text_file_offset = image.code[0].file_offset,
  };
  ledger_->AddModule(description);  // full: counted there; frames keep their module id
  for (size_t i = 1; i < image.code_count; ++i) {
    description.flags = kModuleMoreText;
    description.text_start = image.code[i].range.start;
    description.text_limit = image.code[i].range.limit;
    description.text_file_offset = image.code[i].file_offset;
    ledger_->AddModule(description);
  }
}

void ModuleMap::BeforeClose() {
  closing_.fetch_add(1, std::memory_order_seq_cst);
  for (int i = 0; i < kMaxYields && readers_.load(std::memory_order_seq_cst) != 0; ++i) {
    RawSyscall(SYS_sched_yield);
  }
}

void ModuleMap::AfterClose() {
  // Which of them is gone is not asked: looking would mean to read what another dlclose may unmap. Those that
  // are still there are found again by their fingerprint. Of the permanent ones hardly any ever is.
  uint32_t last = last_id_.load(std::memory_order_relaxed);
  for (uint32_t id = 1; id <= last && id <= kMaxModules; ++id) {
    Module& module = modules_[id];
    if (module.permanent && IsLoaded(module)) continue;
    module.permanent.store(false, std::memory_order_relaxed);
    module.live.store(false, std::memory_order_relaxed);
  }
  // 0: a destructor forked, and this is the child, which comes out of a dlclose that it never entered.
  uint32_t closing = closing_.load(std::memory_order_relaxed);
  while (closing != 0 && !closing_.compare_exchange_weak(closing, closing - 1, std::memory_order_release,
                                                         std::memory_order_relaxed)) {
  }
}

}  // namespace profagent
