#include "agent/encode/elf_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

constexpr uint16_t kMachine = EM_X86_64;
constexpr uint64_t kMaxSections = 1 << 20;  // -ffunction-sections of an unlinked object reaches some 100 000
constexpr uint64_t kMaxSectionNames = 64 * 1024;  // .text and its like stand within that
constexpr uint64_t kMaxNotes = 64 * 1024;

}  // namespace

bool ElfReader::Open(const char* path) {
  Close();
  // O_NONBLOCK: what was a library when it was loaded may be a FIFO now.
  long fd = RawSyscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
  if (SyscallError(fd) != 0) return false;
  fd_ = static_cast<int>(fd);
  struct stat about = {};
  if (RawSyscall(SYS_fstat, fd_, &about) == 0 && S_ISREG(about.st_mode) && Load()) return true;
  Close();
  return false;
}

bool ElfReader::OpenMapped(uintptr_t start) {
  Close();
  memory_ = start;
  memory_size_ = 4096;  // one page is certain; its program headers say how much more there is
  Elf64_Ehdr header;
  ReadAt(0, &header, sizeof header);
  uint64_t end = 0;
  for (uint16_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (ReadAt(header.e_phoff + i * sizeof segment, &segment, sizeof segment) != sizeof segment) break;
    if (segment.p_type == PT_LOAD && segment.p_vaddr + segment.p_memsz > end) {
      end = segment.p_vaddr + segment.p_memsz;
    }
  }
  memory_size_ = (end + 4095) & ~uint64_t{4095};
  if (Load()) return true;
  Close();
  return false;
}

void ElfReader::Close() {
  if (fd_ >= 0) RawSyscall(SYS_close, fd_);
  fd_ = -1;
  window_at_ = 0;
  window_size_ = 0;
  memory_ = 0;
  memory_size_ = 0;
  segments_ = {};
  sections_ = {};
  section_names_ = {};
}

size_t ElfReader::ReadAt(uint64_t offset, void* to, size_t size) const {
  if (memory_ != 0) {
    if (offset >= memory_size_) return 0;
    if (size > memory_size_ - offset) size = memory_size_ - offset;
    std::memcpy(to, reinterpret_cast<const void*>(memory_ + offset), size);
    return size;
  }
  if (size > kSmall) return ReadFile(offset, to, size);
  uint64_t from = offset - window_at_;  // beyond all windows where it lies before this one
  if (from > window_size_ || size > window_size_ - from) {
    window_size_ = ReadFile(offset, window_, offset - window_at_ < kWindow ? kWindow : size);
    window_at_ = offset;
    from = 0;
  }
  if (size > window_size_ - from) size = window_size_ - from;
  std::memcpy(to, window_ + from, size);
  return size;
}

size_t ElfReader::ReadFile(uint64_t offset, void* to, size_t size) const {
  size_t done = 0;
  while (done < size && offset + done <= INT64_MAX) {
    long got = RawSyscall(SYS_pread64, fd_, static_cast<char*>(to) + done, size - done, offset + done);
    if (SyscallError(got) == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

bool ElfReader::Load() {
  if (ReadAt(0, &header_, sizeof header_) != sizeof header_) return false;
  if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0 || header_.e_ident[EI_CLASS] != ELFCLASS64 ||
      header_.e_ident[EI_DATA] != ELFDATA2LSB || header_.e_machine != kMachine) {
    return false;
  }
  if (header_.e_phnum > 0 && header_.e_phentsize == sizeof(Elf64_Phdr)) {
    auto* segments = arena_.AllocateArray<Elf64_Phdr>(header_.e_phnum);
    if (segments == nullptr) return false;
    size_t size = header_.e_phnum * sizeof(Elf64_Phdr);
    if (ReadAt(header_.e_phoff, segments, size) == size) segments_ = {segments, header_.e_phnum};
  }
  if (header_.e_shoff == 0 || header_.e_shentsize != sizeof(Elf64_Shdr))
    return true;  // stripped of them: no names
  Elf64_Shdr first;
  if (ReadAt(header_.e_shoff, &first, sizeof first) != sizeof first) return true;
  uint64_t count = header_.e_shnum != 0 ? header_.e_shnum : first.sh_size;  // too many for 16 bits: see gABI
  if (count > kMaxSections) return true;
  auto* sections = arena_.AllocateArray<Elf64_Shdr>(count);
  if (sections == nullptr) return true;
  size_t size = ReadAt(header_.e_shoff, sections, count * sizeof(Elf64_Shdr));
  sections_ = {sections, size / sizeof(Elf64_Shdr)};
  LoadSectionNames();
  return true;
}

const Elf64_Shdr* ElfReader::FindSection(uint32_t type) const {
  for (const Elf64_Shdr& section : sections_) {
    if (section.sh_type == type) return &section;
  }
  return nullptr;
}

const Elf64_Shdr* ElfReader::FindSection(std::string_view name) const {
  for (const Elf64_Shdr& section : sections_) {
    if (NameOf(section) == name) return &section;
  }
  return nullptr;
}

void ElfReader::LoadSectionNames() {
  uint32_t index = header_.e_shstrndx != SHN_XINDEX ? header_.e_shstrndx
                   : sections_.empty()              ? 0
                                                    : sections_[0].sh_link;
  if (index >= sections_.size()) return;
  size_t size = std::min(sections_[index].sh_size, kMaxSectionNames);
  auto* names = arena_.AllocateArray<char>(size);
  if (names != nullptr) section_names_ = {names, ReadAt(sections_[index].sh_offset, names, size)};
}

std::string_view ElfReader::NameOf(const Elf64_Shdr& section) const {
  if (section.sh_name >= section_names_.size()) return {};
  std::string_view name = section_names_.substr(section.sh_name);
  return name.substr(0, name.find('\0'));
}

bool ElfReader::HasBuildId(std::span<const uint8_t> build_id) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_NOTE || segment.p_filesz > kMaxNotes) continue;
    uint64_t align = segment.p_align == 8 ? 8 : 4;
    uint64_t at = segment.p_offset, end = segment.p_offset + segment.p_filesz;
    Elf64_Nhdr note;
    while (at + sizeof note <= end && ReadAt(at, &note, sizeof note) == sizeof note) {
      uint64_t name = at + sizeof note;
      uint64_t value = at + ((sizeof note + note.n_namesz + align - 1) & ~(align - 1));
      at = value + ((note.n_descsz + align - 1) & ~(align - 1));
      char owner[4];
      if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != sizeof owner) continue;
      if (ReadAt(name, owner, sizeof owner) != sizeof owner || std::memcmp(owner, "GNU", 4) != 0) continue;
      uint8_t bytes[64];
      // A ledger keeps the first 32 bytes of a longer one.
      if (note.n_descsz < build_id.size() || note.n_descsz > sizeof bytes || build_id.empty()) return false;
      return ReadAt(value, bytes, build_id.size()) == build_id.size() &&
             std::memcmp(bytes, build_id.data(), build_id.size()) == 0;
    }
  }
  return build_id.empty();
}

}  // namespace profagent
