// One ELF file, opened for reading: identity, segments, and the way to its debug information.
//
// Context:    `offline`. The handles of libelf and libdw are owned here; what they hand out (names in string
//             sections, section bytes) lives as long as the ElfFile.
// Invariant:  the file is mapped privately and never written.
#pragma once

#include <libelf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace profagent {

// A PT_LOAD. All values are the file's own (its "ELF numbering"), not those of a process.
struct LoadSegment {
  uint64_t offset = 0;  // in the file
  uint64_t file_size = 0;
  uint64_t address = 0;
  uint64_t memory_size = 0;
  bool executable = false;
};

// What .gnu_debuglink or .gnu_debugaltlink says: a file name, and how to know that it is the right file.
struct DebugLink {
  std::string name;
  std::string build_id;  // .gnu_debugaltlink
  uint32_t crc = 0;      // .gnu_debuglink: CRC-32 of the whole file
};

class ElfFile {
 public:
  // Errors name the path.
  static Result<std::unique_ptr<ElfFile>> Open(const std::string& path);
  // The image that the kernel maps into this very process (the vDSO), which exists in no file.
  static Result<std::unique_ptr<ElfFile>> OpenVdso();
  // A whole file that is in memory; `path` is only for messages.
  static Result<std::unique_ptr<ElfFile>> FromMemory(std::string image, const std::string& path);
  // Takes over `fd`; `path` is only for messages.
  static Result<std::unique_ptr<ElfFile>> FromDescriptor(int fd, const std::string& path);

  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& build_id() const { return build_id_; }  // lower-case hexadecimal, "" when there is none
  bool is_little_endian() const { return is_little_endian_; }
  std::span<const LoadSegment> segments() const { return segments_; }
  // Lowest address of code; functions that the linker threw away are described below it.
  uint64_t lowest_code_address() const { return lowest_code_address_; }
  bool HasCodeAt(uint64_t address) const;

  // A section's bytes, decompressed; empty when there is no such section or it has none (SHT_NOBITS).
  std::string_view Section(std::string_view name) const;
  bool HasSection(std::string_view name) const;
  uint64_t SectionAddress(std::string_view name) const;  // 0: there is no such section
  bool HasDebugInfo() const { return HasSection(".debug_info") || HasSection(".zdebug_info"); }
  // It is compressed in a way that this libelf does not read: zstd, before elfutils 0.189.
  bool HasUnreadableDebugInfo() const;
  std::optional<DebugLink> debug_link() const;
  std::optional<DebugLink> debug_alt_link() const;

  Elf* elf() const { return elf_; }
  int fd() const { return fd_; }

 private:
  ElfFile() = default;
  Status Load();
  struct SectionEntry {
    std::string_view name;
    Elf_Scn* section;
    uint64_t address;
    bool has_bytes;
  };
  const SectionEntry* Find(std::string_view name) const;

  std::string path_;
  std::string build_id_;
  std::string image_;  // of FromMemory
  int fd_ = -1;
  Elf* elf_ = nullptr;
  bool is_little_endian_ = true;
  uint64_t lowest_code_address_ = UINT64_MAX;
  std::vector<LoadSegment> segments_;
  std::vector<SectionEntry> sections_;
};

// Of HasUnreadableDebugInfo.
inline constexpr char kUnreadableDebugInfo[] =
    "its debug information is compressed in a way that the installed libelf does not read (zstd needs 0.189)";
inline constexpr char kUnreadableDebugInfoRemedy[] =
    "unpack it: objcopy --decompress-debug-sections (binutils 2.40 knows zstd)";

// Hexadecimal text of a build-id's bytes, as profile.proto and /usr/lib/debug/.build-id spell it.
std::string HexText(std::string_view bytes);

}  // namespace profagent
