// An ELF file read piece by piece: header, sections, build-id, whatever a symbol table needs.
//
// Context:   `dump`, `offline`. Raw system calls; memory from an Arena.
// Why pread and not mmap: a mapped file that somebody shortens meanwhile (a package upgrade, a linker that writes in
//            place) is SIGBUS in the application; a read is just short. It is no slower: a table is read once,
//            front to back, some pages at a time, and of small pieces that lie near each other one brings the next.
// Believes:  nothing. All offsets and sizes of a file may be wrong.
#pragma once

#include <elf.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "agent/base/arena.h"
#include "agent/base/holding.h"

namespace profagent {

class ElfReader : private Holding {
 public:
  explicit ElfReader(Arena& arena)
      : Holding([](Holding* self) { static_cast<ElfReader*>(self)->Close(); }), arena_(arena) {}
  ~ElfReader() { Close(); }
  ElfReader(const ElfReader&) = delete;
  ElfReader& operator=(const ElfReader&) = delete;

  // False: not there, not a regular file, or not a 64-bit ELF file of this machine.
  bool Open(const char* path);
  // An image that the kernel mapped whole, sections included: the vDSO.
  bool OpenMapped(uintptr_t start);
  void Close();

  // Bytes copied: `size`, or fewer at the end of the file. Not for two threads at once: a small piece fills the window.
  size_t ReadAt(uint64_t offset, void* to, size_t size) const;

  // Shows `visit` the entries of a table of `size` bytes, a span of them at a time, until it says false or the file ends.
  template <class Entry, class Visit>
  void ReadTable(uint64_t offset, uint64_t size, Visit visit) const {
    // On the stack, whose pages were touched before: fresh memory would be a page fault for each 4 KiB of it.
    constexpr size_t kAtOnce = 16 * 1024 / sizeof(Entry);
    Entry part[kAtOnce];
    for (uint64_t at = 0; at < size;) {
      size_t want = size - at < sizeof part ? static_cast<size_t>(size - at) : sizeof part;
      size_t got = ReadAt(offset + at, part, want);
      if (!visit(std::span<const Entry>(part, got / sizeof(Entry))) || got < want) return;
      at += got;
    }
  }

  std::span<const Elf64_Shdr> sections() const { return sections_; }
  const Elf64_Shdr* FindSection(uint32_t type) const;
  const Elf64_Shdr* FindSection(std::string_view name) const;
  // .shstrtab's word for a section; empty when unreadable.
  std::string_view NameOf(const Elf64_Shdr& section) const;

  bool HasBuildId(std::span<const uint8_t> build_id) const;  // an empty one: it has none

 private:
  static constexpr size_t kWindow = 4096;  // bytes
  static constexpr size_t kSmall = 1024;   // a piece that is worth a window

  bool Load();
  void LoadSectionNames();
  size_t ReadFile(uint64_t offset, void* to, size_t size) const;

  Arena& arena_;
  int fd_ = -1;
  mutable uint64_t window_at_ = 0;  // in the file
  mutable size_t window_size_ = 0;
  mutable char window_[kWindow];
  uintptr_t memory_ = 0;
  uint64_t memory_size_ = 0;
  Elf64_Ehdr header_{};
  std::span<const Elf64_Phdr> segments_;
  std::span<const Elf64_Shdr> sections_;
  std::string_view section_names_;
};

}  // namespace profagent
