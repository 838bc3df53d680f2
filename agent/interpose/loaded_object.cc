#include "agent/interpose/loaded_object.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <sys/auxv.h>

#include <algorithm>
#include <cstring>

#include "agent/unwind/elf_image.h"

namespace profagent {
namespace {

constexpr uintptr_t kPage = 4096;

uint32_t GnuHash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

uint32_t SysvHash(const char* name) {
  uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    hash = (hash ^ (hash & 0xf0000000) >> 24) & 0x0fffffff;
  }
  return hash;
}

}  // namespace

const link_map* ObjectAt(const void* address) {
  dl_find_object found;
  return _dl_find_object(const_cast<void*>(address), &found) == 0 ? found.dlfo_link_map : nullptr;
}

void* FirstFunction(const link_map* from, const char* name) {
  for (const link_map* map = from; map != nullptr; map = map->l_next) {
    if (void* found = LoadedObject(map).Function(name)) return found;
  }
  return nullptr;
}

bool IsLibcs(const void* function) {
  return function != nullptr &&
         ObjectAt(function) == ObjectAt(reinterpret_cast<void*>(&gnu_get_libc_version));
}

LoadedObject::LoadedObject(const link_map* map) : map_(map) {
  dl_find_object found;
  if (_dl_find_object(map->l_ld, &found) != 0 || found.dlfo_link_map != map) return;
  range_ = {reinterpret_cast<uintptr_t>(found.dlfo_map_start),
            reinterpret_cast<uintptr_t>(found.dlfo_map_end)};
  headers_ = MappedProgramHeaders(range_);
  // Of a program with nothing mapped between some segments (large pages, old linkers) that is the segment of the dynamic section
  // alone; what it refers to, and its data, are in others.
  uintptr_t program = map == _r_debug.r_map ? getauxval(AT_PHDR) : 0;
  if (program != 0 && _dl_find_object(reinterpret_cast<void*>(program), &found) == 0 &&
      found.dlfo_link_map == map) {
    headers_ = {reinterpret_cast<const Elf64_Phdr*>(program), getauxval(AT_PHNUM)};
    range_ = RangeOf(headers_, map->l_addr);
  }
  size_t data_size = 0;
  size_t calls_size = 0;
  size_t relative_count = 0;
  uintptr_t data = 0;
  uintptr_t calls = 0;
  for (const Elf64_Dyn* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    // The loader has added the base to the addresses, but for sections that it cannot write.
    uintptr_t address = entry->d_un.d_ptr;
    if (address < range_.start) address += map->l_addr;
    bool inside = range_.Holds(address, sizeof(void*));
    switch (entry->d_tag) {
      case DT_SYMTAB:
        if (inside) symbols_ = reinterpret_cast<const Elf64_Sym*>(address);
        break;
      case DT_STRTAB:
        if (inside) strings_ = reinterpret_cast<const char*>(address);
        break;
      case DT_GNU_HASH:
        if (inside) gnu_hash_ = reinterpret_cast<const uint32_t*>(address);
        break;
      case DT_HASH:
        if (inside) sysv_hash_ = reinterpret_cast<const uint32_t*>(address);
        break;
      case DT_RELA:
        data = address;
        break;
      case DT_INIT:
        // The loader leaves this one as it is.
        code_ = map->l_addr + entry->d_un.d_ptr;
        break;
      case DT_RELACOUNT:
        relative_count = entry->d_un.d_val;
        break;
      case DT_RELASZ:
        data_size = entry->d_un.d_val;
        break;
      case DT_JMPREL:
        calls = address;
        break;
      case DT_PLTRELSZ:
        calls_size = entry->d_un.d_val;
        break;
      default:
        break;
    }
  }
  auto table = [&](uintptr_t start, size_t size) -> std::span<const Elf64_Rela> {
    if (!range_.Holds(start, size)) return {};
    return {reinterpret_cast<const Elf64_Rela*>(start), size / sizeof(Elf64_Rela)};
  };
  relocations_[0] = table(data, data_size);
  // Those that name no function come first, hundreds of thousands in a large library.
  relocations_[0] = relocations_[0].subspan(std::min(relative_count, relocations_[0].size()));
  relocations_[1] = table(calls, calls_size);
}

// As glibc rounds it: a page that holds other data too stays writable. lld lets it end with the page, behind the segment's own end.
MemoryRange LoadedObject::relro() const {
  for (const Elf64_Phdr& header : headers_) {
    if (header.p_type != PT_GNU_RELRO) continue;
    uintptr_t start = map_->l_addr + header.p_vaddr;
    MemoryRange result = {start & ~(kPage - 1), (start + header.p_memsz) & ~(kPage - 1)};
    return range_.Holds(start, 1) ? result : MemoryRange{};
  }
  return {};
}

bool LoadedObject::MayWrite(const Slot& slot) const {
  auto place = reinterpret_cast<uintptr_t>(slot.place);
  return !SegmentAt(place, map_->l_addr, headers_, PF_W).empty();
}

std::span<const Elf64_Sym> LoadedObject::definitions() const {
  if (gnu_hash_ == nullptr || symbols_ == nullptr) return {};
  uint32_t first = gnu_hash_[1];
  std::span<const uint32_t> buckets = {gnu_hash_ + 4 + size_t{gnu_hash_[2]} * 2, gnu_hash_[0]};
  const uint32_t* chain = buckets.data() + buckets.size();
  uint32_t last = 0;
  for (uint32_t bucket : buckets) last = std::max(last, bucket);
  if (last < first) return {};
  while ((chain[last - first] & 1) == 0) ++last;
  return {symbols_ + first, symbols_ + last + 1};
}

MemoryRange LoadedObject::symbol_pages() const {
  std::span<const Elf64_Sym> symbols = definitions();
  auto start = reinterpret_cast<uintptr_t>(symbols.data());
  MemoryRange pages = {start & ~(kPage - 1), (start + symbols.size_bytes() + kPage - 1) & ~(kPage - 1)};
  return pages.limit <= code_ ? pages : MemoryRange{};
}

void* LoadedObject::Function(const char* name) const {
  const Elf64_Sym* symbol = ok() ? Find(name) : nullptr;
  if (symbol == nullptr) return nullptr;
  uintptr_t address = map_->l_addr + symbol->st_value;
  if (ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC) address = reinterpret_cast<uintptr_t (*)()>(address)();
  return reinterpret_cast<void*>(address);
}

const Elf64_Sym* LoadedObject::Find(const char* name) const {
  if (gnu_hash_ != nullptr)
    return FindByGnuHash(name, [&](uint32_t index) { return IsFunction(index, name); });
  return sysv_hash_ != nullptr ? FindBySysvHash(name) : nullptr;
}

bool LoadedObject::IsAmongOwn(const char* name) const {
  auto is_it = [&](uint32_t index) { return std::strcmp(strings_ + symbols_[index].st_name, name) == 0; };
  return gnu_hash_ == nullptr || FindByGnuHash(name, is_it) != nullptr;
}

template <class IsIt>
const Elf64_Sym* LoadedObject::FindByGnuHash(const char* name, IsIt is_it) const {
  uint32_t bucket_count = gnu_hash_[0];
  uint32_t first = gnu_hash_[1];
  uint32_t filter_words = gnu_hash_[2];
  if (bucket_count == 0 || filter_words == 0) return nullptr;
  auto* buckets = gnu_hash_ + 4 + size_t{filter_words} * 2;
  auto* chain = buckets + bucket_count;
  uint32_t hash = GnuHash(name);
  // The filter, which the loader has read for each name that it looked for, in all objects.
  constexpr uint32_t kWordBits = 64;
  uint64_t word = reinterpret_cast<const uint64_t*>(gnu_hash_ + 4)[hash / kWordBits & (filter_words - 1)];
  if ((word >> hash % kWordBits & word >> (hash >> gnu_hash_[3]) % kWordBits & 1) == 0) return nullptr;
  uint32_t index = buckets[hash % bucket_count];
  if (index < first) return nullptr;
  for (;; ++index) {
    uint32_t other = chain[index - first];
    if ((other | 1) == (hash | 1) && is_it(index)) return &symbols_[index];
    if ((other & 1) != 0) return nullptr;
  }
}

const Elf64_Sym* LoadedObject::FindBySysvHash(const char* name) const {
  uint32_t bucket_count = sysv_hash_[0];
  if (bucket_count == 0) return nullptr;
  const uint32_t* buckets = sysv_hash_ + 2;
  const uint32_t* chain = buckets + bucket_count;
  for (uint32_t index = buckets[SysvHash(name) % bucket_count]; index != 0; index = chain[index]) {
    if (IsFunction(index, name)) return &symbols_[index];
  }
  return nullptr;
}

// Of several versions the first will do: nobody has two of an allocator's functions.
bool LoadedObject::IsFunction(uint32_t index, const char* name) const {
  const Elf64_Sym& symbol = symbols_[index];
  unsigned type = ELF64_ST_TYPE(symbol.st_info);
  return symbol.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) &&
         std::strcmp(strings_ + symbol.st_name, name) == 0;
}

// Not R_X86_64_COPY and R_X86_64_IRELATIVE: they hold no function that has a name.
bool LoadedObject::SlotOf(const Elf64_Rela& relocation, Slot* slot) const {
  uint32_t type = ELF64_R_TYPE(relocation.r_info);
  uint32_t index = ELF64_R_SYM(relocation.r_info);
  bool is_address = type == R_X86_64_64 && relocation.r_addend == 0;
  if ((type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && !is_address) || index == 0) return false;
  uintptr_t place = map_->l_addr + relocation.r_offset;
  if (!range_.Holds(place, sizeof(uintptr_t)) || place % sizeof(uintptr_t) != 0) return false;
  *slot = {reinterpret_cast<uintptr_t*>(place), &symbols_[index], type == R_X86_64_JUMP_SLOT};
  return true;
}

}  // namespace profagent
