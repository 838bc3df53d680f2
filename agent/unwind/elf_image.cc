#include "agent/unwind/elf_image.h"

#include <cstring>

#include "agent/unwind/byte_reader.h"

namespace profagent {
namespace {

constexpr size_t kPage = 4096;

// The contents of the GNU build-id note in [notes.start, notes.limit).
PROF_SIGNAL_SAFE std::span<const uint8_t> FindBuildId(const MemoryRange& notes, uint64_t alignment) {
  constexpr uint64_t kHeader = sizeof(Elf64_Nhdr);
  uint64_t mask = alignment == 8 ? 7 : 3;
  ByteReader reader(notes.start, notes.limit);
  while (reader.left() >= kHeader) {
    uint32_t name_size = reader.U32();
    uint32_t content_size = reader.U32();
    uint32_t type = reader.U32();
    uintptr_t name = reader.at();
    // The contents are aligned, not the name's size: behind a header of 12 bytes that is not the same.
    reader.Skip(((kHeader + name_size + mask) & ~mask) - kHeader);
    uintptr_t content = reader.at();
    if (!reader.ok() || content_size > reader.left()) return {};
    if (type == NT_GNU_BUILD_ID && name_size == 4 &&
        std::memcmp(reinterpret_cast<const void*>(name), "GNU", 4) == 0) {
      return {reinterpret_cast<const uint8_t*>(content), content_size};
    }
    reader.Skip((content_size + mask) & ~mask);
  }
  return {};
}

PROF_SIGNAL_SAFE MemoryRange SegmentRange(const MemoryRange& object, uintptr_t load_bias,
                                          const Elf64_Phdr& header) {
  uintptr_t start = load_bias + header.p_vaddr;
  if (header.p_memsz == 0 || !object.Holds(start, header.p_memsz)) return {};
  return {start, start + header.p_memsz};
}

}  // namespace

// The loader maps an object's first PT_LOAD at `start`; in everything that a linker makes it is readable and
// begins with the ELF header. Read without SafeRead all the same: under a strict seccomp filter the system
// call would be the greater danger.
std::span<const Elf64_Phdr> MappedProgramHeaders(const MemoryRange& object) {
  if (!object.Holds(object.start, sizeof(Elf64_Ehdr))) return {};
  auto* header = reinterpret_cast<const Elf64_Ehdr*>(object.start);
  if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64)
    return {};
  if (header->e_phentsize != sizeof(Elf64_Phdr)) return {};
  uint64_t size = uint64_t{header->e_phnum} * sizeof(Elf64_Phdr);
  if (header->e_phoff > kPage || size > kPage - header->e_phoff) return {};
  if (!object.Holds(object.start, header->e_phoff + size)) return {};
  return {reinterpret_cast<const Elf64_Phdr*>(object.start + header->e_phoff), header->e_phnum};
}

MemoryRange RangeOf(std::span<const Elf64_Phdr> headers, uintptr_t load_bias) {
  MemoryRange range{UINTPTR_MAX, 0};
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD) continue;
    uintptr_t start = load_bias + header.p_vaddr, limit = start + header.p_memsz;
    if (start < range.start) range.start = start & ~(kPage - 1);
    if (limit > range.limit) range.limit = limit;
  }
  return range;
}

MemoryRange SegmentAt(uintptr_t address, uintptr_t load_bias, std::span<const Elf64_Phdr> headers,
                      Elf64_Word flags) {
  for (const Elf64_Phdr& header : headers) {
    uintptr_t start = load_bias + header.p_vaddr;
    if (header.p_type != PT_LOAD || (header.p_flags & flags) != flags) continue;
    if (address - start < header.p_memsz) return {start, start + header.p_memsz};
  }
  return {};
}

bool ElfImage::CanRead(uintptr_t address, size_t size) const {
  for (size_t i = 0; i < readable_count; ++i) {
    if (readable[i].Holds(address, size)) return true;
  }
  return false;
}

void ReadElfImage(const MemoryRange& object, uintptr_t load_bias, std::span<const Elf64_Phdr> headers,
                  ElfImage* image) {
  *image = ElfImage{};
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD) continue;
    MemoryRange range = SegmentRange(object, load_bias, header);
    if (range.empty()) continue;
    if ((header.p_flags & PF_X) != 0 && image->code_count < kMaxSegments) {
      image->code[image->code_count++] = {range, header.p_offset};
    }
    if ((header.p_flags & PF_R) != 0 && image->readable_count < kMaxSegments) {
      image->readable[image->readable_count++] = range;
    }
  }
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_NOTE || !image->build_id.empty()) continue;
    MemoryRange notes = SegmentRange(object, load_bias, header);
    if (!notes.empty() && image->CanRead(notes.start, notes.limit - notes.start)) {
      image->build_id = FindBuildId(notes, header.p_align);
    }
  }
}

}  // namespace profagent
