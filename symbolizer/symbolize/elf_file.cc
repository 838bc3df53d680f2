#include "symbolizer/symbolize/elf_file.h"

#include <elf.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace profagent {
namespace {

// The vDSO is two to four pages; its section headers lie at the end of them.
constexpr size_t kVdsoLimit = 64 << 10;

Error ErrnoError(const std::string& path) {
  Error error = Error::Of(path, ": ", strerror(errno));
  error.code = errno;
  return error;
}

}  // namespace

std::string HexText(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Result<std::unique_ptr<ElfFile>> ElfFile::Open(const std::string& path) {
  // O_NONBLOCK: a FIFO under that name must not hold us up.
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ErrnoError(path);
  return FromDescriptor(fd, path);
}

Result<std::unique_ptr<ElfFile>> ElfFile::FromDescriptor(int fd, const std::string& path) {
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->path_ = path;
  file->fd_ = fd;
  struct stat status;
  if (fstat(fd, &status) != 0) return ErrnoError(path);
  if (S_ISDIR(status.st_mode)) return Error::Of(path, ": is a directory");
  if (!S_ISREG(status.st_mode)) return Error::Of(path, ": not a regular file");
  if (elf_version(EV_CURRENT) == EV_NONE) return Error::Of("libelf is too old");
  file->elf_ = elf_begin(fd, ELF_C_READ_MMAP, nullptr);
  if (Status loaded = file->Load(); !loaded) return loaded.error();
  return file;
}

Result<std::unique_ptr<ElfFile>> ElfFile::OpenVdso() {
  auto* image = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  if (image == nullptr) return Error::Of("[vdso]: this kernel maps none");
  // elf_memory needs the size, which only the section headers' end tells.
  auto* header = reinterpret_cast<const Elf64_Ehdr*>(image);
  size_t size = header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
  if (size > kVdsoLimit) return Error::Of("[vdso]: implausible size");
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->path_ = "[vdso]";
  if (elf_version(EV_CURRENT) == EV_NONE) return Error::Of("libelf is too old");
  file->elf_ = elf_memory(const_cast<char*>(image), size);
  if (Status loaded = file->Load(); !loaded) return loaded.error();
  return file;
}

Result<std::unique_ptr<ElfFile>> ElfFile::FromMemory(std::string image, const std::string& path) {
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->path_ = path;
  file->image_ = std::move(image);
  if (elf_version(EV_CURRENT) == EV_NONE) return Error::Of("libelf is too old");
  file->elf_ = elf_memory(file->image_.data(), file->image_.size());
  if (Status loaded = file->Load(); !loaded) return loaded.error();
  return file;
}

ElfFile::~ElfFile() {
  if (elf_ != nullptr) elf_end(elf_);
  if (fd_ >= 0) close(fd_);
}

Status ElfFile::Load() {
  if (elf_ == nullptr || elf_kind(elf_) != ELF_K_ELF) return Error::Of(path_, ": not an ELF file");
  GElf_Ehdr header;
  if (gelf_getehdr(elf_, &header) == nullptr) return Error::Of(path_, ": ", elf_errmsg(-1));
  is_little_endian_ = header.e_ident[EI_DATA] == ELFDATA2LSB;

  size_t count = 0;
  if (elf_getphdrnum(elf_, &count) != 0) count = 0;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr program;
    if (gelf_getphdr(elf_, static_cast<int>(i), &program) == nullptr) break;
    if (program.p_type != PT_LOAD) continue;
    bool executable = (program.p_flags & PF_X) != 0;
    segments_.push_back({program.p_offset, program.p_filesz, program.p_vaddr, program.p_memsz, executable});
    if (executable) lowest_code_address_ = std::min<uint64_t>(lowest_code_address_, program.p_vaddr);
  }

  uint64_t lowest_section = UINT64_MAX;
  size_t names = 0;
  if (elf_getshdrstrndx(elf_, &names) == 0) {
    Elf_Scn* section = nullptr;
    while ((section = elf_nextscn(elf_, section)) != nullptr) {
      GElf_Shdr shdr;
      if (gelf_getshdr(section, &shdr) == nullptr) continue;
      constexpr uint64_t kCode = SHF_ALLOC | SHF_EXECINSTR;
      if ((shdr.sh_flags & kCode) == kCode) lowest_section = std::min<uint64_t>(lowest_section, shdr.sh_addr);
      const char* name = elf_strptr(elf_, names, shdr.sh_name);
      if (name != nullptr)
        sections_.push_back({name, section, shdr.sh_addr, shdr.sh_type != SHT_NOBITS && shdr.sh_size > 0});
    }
  }

  // A segment of code may begin with what is none, at address 0 (-z noseparate-code, gold): its sections know better.
  if (lowest_section != UINT64_MAX) lowest_code_address_ = lowest_section;

  const void* id = nullptr;
  ssize_t size = dwelf_elf_gnu_build_id(elf_, &id);
  if (size > 0) build_id_ = HexText({static_cast<const char*>(id), static_cast<size_t>(size)});
  return Done{};
}

bool ElfFile::HasCodeAt(uint64_t address) const {
  return std::any_of(segments_.begin(), segments_.end(), [&](const LoadSegment& segment) {
    return segment.executable && address - segment.address < segment.memory_size;
  });
}

const ElfFile::SectionEntry* ElfFile::Find(std::string_view name) const {
  for (const SectionEntry& entry : sections_) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

bool ElfFile::HasSection(std::string_view name) const {
  const SectionEntry* entry = Find(name);
  return entry != nullptr && entry->has_bytes;
}

uint64_t ElfFile::SectionAddress(std::string_view name) const {
  const SectionEntry* entry = Find(name);
  return entry != nullptr ? entry->address : 0;
}

std::string_view ElfFile::Section(std::string_view name) const {
  const SectionEntry* entry = Find(name);
  if (entry == nullptr && name.starts_with(".debug_")) {
    // The compressed sections of before 2015. Fails when libdw, which shares the handle, has already done it.
    entry = Find(".z" + std::string(name.substr(1)));
    if (entry != nullptr) elf_compress_gnu(entry->section, 0, 0);
  }
  if (entry == nullptr || !entry->has_bytes) return {};
  GElf_Shdr shdr;
  if (gelf_getshdr(entry->section, &shdr) == nullptr) return {};
  if ((shdr.sh_flags & SHF_COMPRESSED) != 0 && elf_compress(entry->section, 0, 0) < 0) return {};
  Elf_Data* data = elf_rawdata(entry->section, nullptr);
  if (data == nullptr || data->d_buf == nullptr) return {};
  return {static_cast<const char*>(data->d_buf), data->d_size};
}

bool ElfFile::HasUnreadableDebugInfo() const {
  const SectionEntry* entry = Find(".debug_info");
  GElf_Chdr compression;
  if (entry == nullptr || gelf_getchdr(entry->section, &compression) == nullptr) return false;
  return compression.ch_type != ELFCOMPRESS_ZLIB && Section(".debug_info").empty();
}

std::optional<DebugLink> ElfFile::debug_link() const {
  GElf_Word crc = 0;
  const char* name = dwelf_elf_gnu_debuglink(elf_, &crc);
  if (name == nullptr || *name == '\0') return std::nullopt;
  return DebugLink{name, "", crc};
}

std::optional<DebugLink> ElfFile::debug_alt_link() const {
  std::string_view bytes = Section(".gnu_debugaltlink");
  size_t end = bytes.find('\0');
  if (end == std::string_view::npos || end == 0) return std::nullopt;
  return DebugLink{std::string(bytes.substr(0, end)), HexText(bytes.substr(end + 1)), 0};
}

}  // namespace profagent
