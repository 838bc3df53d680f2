// One loaded object as its dynamic section describes it: which functions it defines, and where the addresses of the
// functions that it calls are kept.
//
// Context:   `bootstrap` and `hook`. Reads only the object's own memory, which the caller keeps mapped. No lock, no call into
//            the loader but _dl_find_object.
// Why:       dlsym allocates and locks, cannot be asked about one object alone, and answers with a program's procedure
//            linkage table where that program took a function's address.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <span>

#include "agent/unwind/memory_range.h"

namespace profagent {

// A word that the loader fills with the address of a function of another object, or of this one.
struct Slot {
  uintptr_t* place;
  const Elf64_Sym* symbol;
  bool is_lazy;  // a call's: until the first one it may hold the address of code in the object itself
};

class LoadedObject {
 public:
  // Not `ok`: the loader does not know `map` (any more), or it has no symbols.
  explicit LoadedObject(const link_map* map);
  bool ok() const { return symbols_ != nullptr && strings_ != nullptr; }

  const link_map* map() const { return map_; }
  const MemoryRange& range() const { return range_; }
  bool Holds(const void* address) const { return range_.Holds(reinterpret_cast<uintptr_t>(address), 1); }
  // What the loader makes read-only when it is done with it; empty: nothing.
  MemoryRange relro() const;
  // Outside it, too, it is not to be written where the linker meant it to be read-only (DT_TEXTREL), or where nothing can be said: of
  // an object whose program headers do not stand on its first page (llvm-bolt).
  bool MayWrite(const Slot& slot) const;

  // Whole pages, which hold what exports are called and where they are, and no code; empty: not to be told.
  MemoryRange symbol_pages() const;

  // What the object exports, where it has a GNU hash table.
  std::span<const Elf64_Sym> definitions() const;
  // The function of this name that the object exports; nullptr: none.
  void* Function(const char* name) const;
  // Whether it is among the object's own symbols, defined or not: GNU ld puts others' functions that the object calls by way of its
  // GOT (.plt.got) there. Where there is no GNU hash table: yes.
  bool IsAmongOwn(const char* name) const;

  const char* NameOf(const Elf64_Sym& symbol) const { return strings_ + symbol.st_name; }
  const char* NameOf(const Slot& slot) const { return NameOf(*slot.symbol); }
  // Whether what is in the slot leads to the loader, which was not asked for the function yet: to code of the object that is
  // not the function, should the object define it itself.
  bool IsUnbound(const Slot& slot, uintptr_t value) const {
    return slot.is_lazy && range_.Holds(value, 1) && value != map_->l_addr + slot.symbol->st_value;
  }
  // `visit(const Slot&)` for every slot of a function; or of words in data for those alone with functions of other objects: a large
  // C++ library has tens of thousands in its vtables and type information. kOthersByNumber does not look at their symbols, most of
  // which were not looked at before: it passes by those that IsAmongOwn knows.
  enum class Data : uint8_t { kAll, kOthersFunctions, kOthersByNumber };
  template <class Visit>
  void ForEachSlot(Data data, Visit visit) const {
    for (const std::span<const Elf64_Rela>& table : relocations_) {
      for (const Elf64_Rela& relocation : table) {
        Slot slot;
        if (data != Data::kAll && ELF64_R_TYPE(relocation.r_info) == R_X86_64_64 &&
            (data == Data::kOthersByNumber ? ELF64_R_SYM(relocation.r_info) >= gnu_hash_[1]
                                           : IsOwnOrNoFunction(relocation)))
          continue;
        if (SlotOf(relocation, &slot)) visit(slot);
      }
    }
  }

 private:
  const Elf64_Sym* Find(const char* name) const;
  template <class IsIt>
  const Elf64_Sym* FindByGnuHash(const char* name, IsIt is_it) const;
  const Elf64_Sym* FindBySysvHash(const char* name) const;
  bool IsFunction(uint32_t index, const char* name) const;
  // Of a word in data.
  bool IsOwnOrNoFunction(const Elf64_Rela& relocation) const {
    const Elf64_Sym& symbol = symbols_[ELF64_R_SYM(relocation.r_info)];
    return symbol.st_shndx != SHN_UNDEF || ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT;
  }
  bool SlotOf(const Elf64_Rela& relocation, Slot* slot) const;

  const link_map* map_;
  MemoryRange range_;
  std::span<const Elf64_Phdr> headers_;
  const Elf64_Sym* symbols_ = nullptr;
  const char* strings_ = nullptr;
  const uint32_t* gnu_hash_ = nullptr;
  const uint32_t* sysv_hash_ = nullptr;
  uintptr_t code_ = 0;                          // DT_INIT: where linkers begin the code; 0: none
  std::span<const Elf64_Rela> relocations_[2];  // of data, of calls
};

// The first function of this name in `from` and the objects behind it, in the order in which the loader binds names.
void* FirstFunction(const link_map* from, const char* name);

// Which object holds `address`; nullptr: none.
const link_map* ObjectAt(const void* address);
bool IsLibcs(const void* function);

}  // namespace profagent
