#include "tests/unit/symbolizer/symbolize/sample_program.h"

#include <gelf.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent::testing {

const char kSampleSource[] = R"(#include <stdio.h>
namespace sample {
volatile int sink;
__attribute__((always_inline)) inline void inner(int value) {
  __asm__ volatile(".globl marker\nmarker: nop"); sink = value;
}
template <class T>
__attribute__((always_inline)) inline void middle(T value) {
  inner(static_cast<int>(value));
}

__attribute__((noinline)) void outer(int value, const char* text) {
  middle<long>(value);
  puts(text);
}
}  // namespace sample
__attribute__((noinline, used)) void never_called() { sample::sink = 3; }
)";

const char kSampleMain[] = R"(namespace sample { void outer(int, const char*); }
static __attribute__((noinline, used)) int twice(int x) { return x * 2; }
int main(int argc, char** argv) {
  sample::outer(twice(argc), argv[0]);
  return 0;
}
)";

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "profagent_test.XXXXXX").string();
  path_ = std::filesystem::canonical(mkdtemp(name.data())).string();
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::Write(std::string_view name, std::string_view text) const {
  std::ofstream(*this / name, std::ios::binary) << text;
  return *this / name;
}

bool TemporaryDirectory::Run(const std::string& command) const {
  std::string log = *this / "log";
  int status = system(("cd '" + path_ + "' && ( " + command + " ) > log 2>&1").c_str());
  if (status == 0) return true;
  ADD_FAILURE() << command << "\n" << ReadWhole(log);
  return false;
}

bool HasProgram(const std::string& name) {
  return system(("command -v " + name + " > /dev/null 2>&1").c_str()) == 0;
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool SpoilCompression(const TemporaryDirectory& directory, const std::string& file) {
  // The section begins with its Elf64_Chdr, and that with the type of compression.
  return directory.Run("at=$(readelf -SW " + file +
                       " | sed -n 's/.* [.]debug_info *PROGBITS *[0-9a-f]* \\([0-9a-f]*\\) .*/\\1/p') && "
                       "printf '\\002' | dd of=" +
                       file + " bs=1 seek=$((0x$at)) conv=notrunc 2>&1");
}

std::vector<uint64_t> SymbolAddresses(const std::string& binary, std::string_view name) {
  auto file = ElfFile::Open(binary);
  return file ? SymbolAddresses(**file, name) : std::vector<uint64_t>();
}

std::vector<uint64_t> SymbolAddresses(const ElfFile& file, std::string_view name) {
  std::vector<uint64_t> addresses;
  for (uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    Elf_Scn* section = nullptr;
    while ((section = elf_nextscn(file.elf(), section)) != nullptr) {
      GElf_Shdr header;
      gelf_getshdr(section, &header);
      if (header.sh_type != wanted) continue;
      Elf_Data* data = elf_getdata(section, nullptr);
      for (size_t i = 0; i < header.sh_size / header.sh_entsize; ++i) {
        GElf_Sym symbol;
        gelf_getsym(data, static_cast<int>(i), &symbol);
        if (symbol.st_shndx == SHN_UNDEF) continue;
        if (name == elf_strptr(file.elf(), header.sh_link, symbol.st_name))
          addresses.push_back(symbol.st_value);
      }
    }
    if (!addresses.empty()) break;
  }
  return addresses;
}

}  // namespace profagent::testing
