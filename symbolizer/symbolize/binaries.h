// Finds the files behind a profile's mappings: the binary, and its debug information where that is kept apart.
//
// Context:    `offline`.
// Invariant:  no file is used whose build-id differs from the one that was profiled; it is named as the reason.
//
// Debug information is looked for where gdb and elfutils look, in this order, DIR being the user's
// directories, then /usr/lib/debug:
//   DIR/.build-id/xx/yyyy.debug
//   what .gnu_debuglink names: next to the binary, in .debug/ next to it, in DIR/directory-of-the-binary/
//   DIR/path-of-the-binary, DIR/name-of-the-binary: a copy that was not stripped, or what was taken off it
//   debuginfod, if the user has set DEBUGINFOD_URLS
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent {

struct Binary {
  std::unique_ptr<ElfFile> file;       // what ran; nullptr when it is gone or replaced
  std::unique_ptr<ElfFile> debug;      // separate debug information, or nullptr
  std::unique_ptr<ElfFile> alternate;  // what .gnu_debugaltlink names (dwz), or nullptr
  std::string problem;                 // why something was not used or not found, "" when all is well

  // Where the DWARF is; nullptr when there is none.
  ElfFile* dwarf() const {
    if (file != nullptr && file->HasDebugInfo()) return file.get();
    return debug != nullptr && debug->HasDebugInfo() ? debug.get() : nullptr;
  }
};

class BinaryFinder {
 public:
  // `debug_path`: the user's directories. A binary is also looked for there, under its whole path (as in the
  // root of another machine's file system) and under its name.
  BinaryFinder(std::vector<std::string> debug_path, bool use_debuginfod);
  ~BinaryFinder();

  // `build_id` may be "" (the profile does not say): then the path is believed.
  Binary Find(const std::string& path, const std::string& build_id) const;

 private:
  std::unique_ptr<ElfFile> FindFile(const std::string& path, const std::string& build_id,
                                    std::string* problem) const;
  std::vector<std::string> InUsersDirectories(const std::string& path) const;
  std::unique_ptr<ElfFile> FindUnstripped(const std::string& path, const ElfFile& file,
                                          std::string* problem) const;
  std::unique_ptr<ElfFile> FindByBuildId(const std::string& build_id, std::string* problem) const;
  std::unique_ptr<ElfFile> FindByLink(const ElfFile& file, std::string* problem) const;
  std::unique_ptr<ElfFile> FindAlternate(const ElfFile& file, std::string* problem) const;

  std::vector<std::string> directories_;
  class Debuginfod;
  std::unique_ptr<Debuginfod> debuginfod_;
};

}  // namespace profagent
