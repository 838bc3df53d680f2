// Small programs, compiled while the test runs, whose lines the test knows.
//
// Context: tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent::testing {

// A directory that goes away with the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  std::string Write(std::string_view name, std::string_view text) const;  // the file's path
  // Runs a shell command in the directory; false, with its output in the test's log, when it fails.
  bool Run(const std::string& command) const;

 private:
  std::string path_;
};

bool HasProgram(const std::string& name);
std::string ReadWhole(const std::string& path);

// Says of the compressed .debug_info of that file there that it is compressed by zstd, which it is not.
bool SpoilCompression(const TemporaryDirectory& directory, const std::string& file);

// The addresses of symbols with this name (.symtab, or .dynsym when there is no such); empty when there is none.
std::vector<uint64_t> SymbolAddresses(const std::string& binary, std::string_view name);
std::vector<uint64_t> SymbolAddresses(const ElfFile& file, std::string_view name);

// inner (line 5) is inlined into middle (line 9), that into outer (line 13), in a C++ namespace. The label `marker` is an
// instruction of inner. `outer` is called from main, which is in another file.
extern const char kSampleSource[];
extern const char kSampleMain[];

}  // namespace profagent::testing
