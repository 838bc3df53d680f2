#include "agent/encode/elf_symbols.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/encode/elf_reader.h"
#include "tests/unit/aligned_notes.h"
#include "tests/unit/encode/elf_names.h"
#include "tests/unit/scratch_directory.h"

namespace profagent {
namespace {

using Origin = ElfSymbols::Origin;

std::string Output(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  char part[4096];
  for (size_t size; (size = fread(part, 1, sizeof part, pipe)) > 0;) output.append(part, size);
  pclose(pipe);
  return output;
}

std::vector<uint8_t> BuildIdOf(const std::string& path) {
  std::string text = Output("readelf -n '" + path + "' 2>/dev/null | sed -n 's/.*Build ID: //p' | head -1");
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string PathOfLibc() {
  std::string path;
  dl_iterate_phdr(
      [](struct dl_phdr_info* info, size_t, void* found) {
        if (std::strstr(info->dlpi_name, "libc.so.6") != nullptr)
          *static_cast<std::string*>(found) = info->dlpi_name;
        return 0;
      },
      &path);
  return path;
}

// nm's own list of code symbols: start, size, name.
struct NmSymbol {
  uint64_t start, size;
  char kind;
  std::string name;
};
std::vector<NmSymbol> Nm(const std::string& options, const std::string& path) {
  std::vector<NmSymbol> symbols;
  std::string list = Output("nm -S --defined-only " + options + " '" + path + "'");
  size_t at = 0;
  while (at < list.size()) {
    size_t end = list.find('\n', at);
    unsigned long start = 0, size = 0;
    char kind = 0;
    int name_at = 0;
    std::string line = list.substr(at, end - at);
    if (sscanf(line.c_str(), "%lx %lx %c %n", &start, &size, &kind, &name_at) == 3 &&
        std::strchr("tTwWi", kind)) {
      std::string name = line.substr(static_cast<size_t>(name_at));
      symbols.push_back({start, size, kind, name.substr(0, name.find('@'))});
    }
    at = end + 1;
  }
  return symbols;
}

// Every function of a real file, asked for at its first, middle and last byte, must have a name that nm gives to
// the innermost symbol there.
void ExpectAsNm(const std::string& options, const std::string& path) {
  std::vector<NmSymbol> symbols = Nm(options, path);
  ASSERT_GT(symbols.size(), 100u) << path;
  std::set<uint64_t> wanted;
  for (const NmSymbol& symbol : symbols) {
    wanted.insert({symbol.start, symbol.start + symbol.size / 2, symbol.start + symbol.size - 1});
  }
  std::vector<uint64_t> addresses(wanted.begin(), wanted.end());
  std::map<uint64_t, std::vector<const NmSymbol*>> by_start;
  uint64_t longest = 0;
  for (const NmSymbol& symbol : symbols) {
    by_start[symbol.start].push_back(&symbol);
    longest = std::max(longest, symbol.size);
  }
  std::vector<std::string> names = Names({path, BuildIdOf(path)}, addresses);
  size_t wrong = 0;
  for (size_t i = 0; i < addresses.size(); ++i) {
    std::set<std::string> innermost;
    bool any_global = false;
    for (auto at = by_start.upper_bound(addresses[i]); at != by_start.begin() && innermost.empty();) {
      --at;
      if (at->first + longest < addresses[i]) break;
      for (const NmSymbol* symbol : at->second) {
        if (symbol->start + symbol->size <= addresses[i]) continue;
        bool global = symbol->kind == 'T' || symbol->kind == 'i';
        if (global && !any_global) innermost.clear();  // globals go before the rest
        any_global |= global;
        if (global == any_global) innermost.insert(symbol->name);
      }
    }
    if (innermost.count(names[i]) == 0 && ++wrong < 5) {
      ADD_FAILURE() << path << " 0x" << std::hex << addresses[i] << " is " << names[i] << ", nm has "
                    << (innermost.empty() ? "nothing" : *innermost.begin());
    }
  }
  EXPECT_EQ(wrong, 0u) << "of " << addresses.size();
}

TEST(ElfSymbols, NamesTheFunctionsOfARealProgramAsNmDoes) { ExpectAsNm("", OwnPath()); }
TEST(ElfSymbols, NamesTheFunctionsOfAStrippedLibraryAsNmDoes) { ExpectAsNm("-D", PathOfLibc()); }

TEST(ElfSymbols, PrefersTheNameThatPeopleKnow) {
  std::vector<NmSymbol> symbols = Nm("-D", PathOfLibc());
  auto address_of = [&](const std::string& name) {
    for (const NmSymbol& symbol : symbols) {
      if (symbol.name == name) return symbol.start;
    }
    return uint64_t{0};
  };
  Query libc{PathOfLibc(), BuildIdOf(PathOfLibc())};
  EXPECT_EQ(Names(libc, {address_of("__libc_malloc")})[0], "malloc");  // both global: fewer underscores
}

TEST(ElfSymbols, KnowsAFileByABuildIdBehindNotesOfAlignmentEight) {
  struct File {
    Elf64_Ehdr header{};
    Elf64_Phdr notes{};
    NotesOfAlignmentEight contents;
  } bytes;
  std::memcpy(bytes.header.e_ident, ELFMAG, SELFMAG);
  bytes.header.e_ident[EI_CLASS] = ELFCLASS64;
  bytes.header.e_ident[EI_DATA] = ELFDATA2LSB;
  bytes.header.e_machine = EM_X86_64;
  bytes.header.e_phoff = offsetof(File, notes);
  bytes.header.e_phentsize = sizeof(Elf64_Phdr);
  bytes.header.e_phnum = 1;
  bytes.notes.p_type = PT_NOTE;
  bytes.notes.p_offset = offsetof(File, contents);
  bytes.notes.p_filesz = sizeof bytes.contents;
  bytes.notes.p_align = 8;
  std::string path = "/tmp/profagent-elf-test-XXXXXX";
  int fd = mkstemp(path.data());
  ASSERT_EQ(write(fd, &bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
  close(fd);
  Arena arena;
  ElfReader file(arena);
  ASSERT_TRUE(file.Open(path.c_str()));
  EXPECT_TRUE(file.HasBuildId(std::vector<uint8_t>{0xab, 0xcd, 0xef}));
  EXPECT_FALSE(file.HasBuildId(std::vector<uint8_t>{0xab, 0xcd, 0xee}));
  EXPECT_FALSE(file.HasBuildId({}));
  unlink(path.c_str());
}

TEST(ElfSymbols, GivesNoNamesOfAFileThatIsNotTheOneThatWasLoaded) {
  std::vector<NmSymbol> symbols = Nm("-D", PathOfLibc());
  ASSERT_FALSE(symbols.empty());
  std::vector<uint8_t> build_id = BuildIdOf(PathOfLibc());
  ASSERT_FALSE(build_id.empty());
  std::vector<uint64_t> address = {symbols[0].start};
  EXPECT_NE(Names({PathOfLibc(), build_id}, address)[0], "");
  build_id.back() ^= 1;
  EXPECT_EQ(Names({PathOfLibc(), build_id}, address)[0], "");
  EXPECT_EQ(Names({PathOfLibc(), {}}, address)[0], "");
}

TEST(ElfSymbols, GivesNoNamesWhereThereIsNoFile) {
  for (std::string path : {"", "/nonexistent", "/", "/dev/zero", "/etc/passwd", "[anon]"}) {
    EXPECT_EQ(Names({path, {}}, {0x1000})[0], "") << path;
  }
}

TEST(ElfSymbols, ResolvesAPathAgainstTheDirectoryOfTheProcess) {
  std::string path = OwnPath();
  size_t slash = path.rfind('/');
  Query query{path.substr(slash + 1), BuildIdOf(path), 0, path.substr(0, slash)};
  std::vector<NmSymbol> symbols = Nm("", path);
  ASSERT_FALSE(symbols.empty());
  EXPECT_NE(Names(query, {symbols[0].start})[0], "");
}

// A program that was deleted or replaced while it runs, or that changed its root, can still be read by itself.
TEST(ElfSymbols, FindsTheRunningProgramWhateverBecameOfItsPath) {
  std::string path = OwnPath();
  std::vector<NmSymbol> symbols = Nm("", path);
  ASSERT_FALSE(symbols.empty());
  std::vector<uint64_t> address = {symbols[0].start};
  Query query{"/nonexistent/unit_tests", BuildIdOf(path), kModuleIsProgram, "/", Origin::kThisProcess};
  EXPECT_NE(Names(query, address)[0], "");
  query.origin = Origin::kElsewhere;
  EXPECT_EQ(Names(query, address)[0], "");
}

TEST(ElfSymbols, NamesTheVdsoFromMemory) {
  uintptr_t start = getauxval(AT_SYSINFO_EHDR);
  if (start == 0) GTEST_SKIP() << "this kernel gives no vDSO";
  // Its build-id, and the address of clock_gettime, by hand.
  auto* header = reinterpret_cast<const Elf64_Ehdr*>(start);
  auto* segments = reinterpret_cast<const Elf64_Phdr*>(start + header->e_phoff);
  std::vector<uint8_t> build_id;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type != PT_NOTE) continue;
    const char* at = reinterpret_cast<const char*>(start + segments[i].p_offset);
    for (const char* end = at + segments[i].p_filesz; at < end;) {
      auto* note = reinterpret_cast<const Elf64_Nhdr*>(at);
      const char* value = at + sizeof *note + (note->n_namesz + 3) / 4 * 4;
      if (note->n_type == NT_GNU_BUILD_ID) build_id.assign(value, value + note->n_descsz);
      at = value + (note->n_descsz + 3) / 4 * 4;
    }
  }
  std::vector<uint64_t> addresses(0x1000 / 16);
  for (size_t i = 0; i < addresses.size(); ++i) addresses[i] = i * 16;
  std::vector<std::string> names = Names({"[vdso]", build_id, kModuleIsVdso}, addresses);
  std::set<std::string> found(names.begin(), names.end());
  EXPECT_EQ(found.count("__vdso_clock_gettime"), 1u);
  EXPECT_EQ(found.count("__vdso_gettimeofday"), 1u);
}

// The test itself calls through a stub: its address must be that of `name@plt`.
TEST(ElfSymbols, CallsAStubAfterTheFunctionBehindIt) {
  std::string path = OwnPath();
  // objdump knows stubs in a way of its own (it makes up symbols `name@plt`).
  std::string list = Output("objdump -d --section=.plt --section=.plt.sec --section=.plt.got '" + path +
                            "' | sed -n 's/^\\([0-9a-f]*\\) <\\(.*@plt\\)>:$/\\1 \\2/p'");
  std::vector<std::pair<uint64_t, std::string>> stubs;
  for (size_t at = 0; at < list.size();) {
    size_t end = list.find('\n', at);
    unsigned long address = 0;
    char name[512];
    if (sscanf(list.c_str() + at, "%lx %511s", &address, name) == 2) stubs.emplace_back(address, name);
    at = end + 1;
  }
  if (stubs.empty()) GTEST_SKIP() << "objdump finds no stubs in " << path;
  std::vector<uint64_t> addresses;
  for (auto& [address, name] : stubs) addresses.push_back(address + 4);  // inside the stub
  std::vector<std::string> names = Names({path, BuildIdOf(path)}, addresses);
  size_t right = 0, named = 0;
  for (size_t i = 0; i < stubs.size(); ++i) {
    right += names[i] == stubs[i].second;
    named += !names[i].empty();
  }
  EXPECT_EQ(right, named);
  EXPECT_GE(named, stubs.size() * 9 / 10);
}

// Bare addresses would show one function of a stripped program as a hundred.
void ExpectStartsOfFunctions(const std::string& options) {
  testing::ScratchDirectory directory;
  std::string stripped = directory.File("stripped_copy");
  ASSERT_EQ(Output("objcopy --strip-all " + options + " '" + OwnPath() + "' '" + stripped + "' 2>&1"), "");
  std::map<uint64_t, uint64_t> functions;  // compiled ones: start, size; folded aliases once
  for (const NmSymbol& symbol : Nm("", OwnPath())) {
    if (symbol.name.starts_with("_ZN9profagent") && symbol.name.find(".cold") == std::string::npos) {
      functions[symbol.start] = symbol.size;
    }
  }
  ASSERT_GT(functions.size(), 100u);
  std::vector<uint64_t> addresses;
  for (auto [start, size] : functions) {
    addresses.push_back(start);
    if (size > 1) addresses.push_back(start + size - 1);
  }
  std::vector<std::string> names = Names({stripped, BuildIdOf(stripped)}, addresses);
  for (size_t i = 0; i < addresses.size(); ++i) {
    char expected[64];
    snprintf(expected, sizeof expected, "stripped_copy+0x%lx",
             std::prev(functions.upper_bound(addresses[i]))->first);
    EXPECT_EQ(names[i], expected);
  }
}
TEST(ElfSymbols, CallsStrippedCodeAfterTheStartOfItsFunction) { ExpectStartsOfFunctions(""); }
// As a library exports an empty function, whose size is 0.
TEST(ElfSymbols, KnowsThatALabelEndsWhereAFunctionBegins) {
  ExpectStartsOfFunctions("--add-symbol label=.text:0,function,global");
}

// To .eh_frame_hdr all of Go's code is one gap: etcd and podman, which Debian strips, would have one function.
TEST(ElfSymbols, NamesTheFunctionsOfAStrippedGoProgram) {
  if (Output("command -v go").empty()) GTEST_SKIP() << "no Go";
  testing::ScratchDirectory directory;
  std::string whole = directory.File("whole"), stripped = directory.File("stripped");
  ASSERT_EQ(
      Output("cd '" + directory.File("") +
             "' && echo 'package main; func main() { println(1) }' > a.go && GOFLAGS= "
             "GOCACHE=\"$PWD/cache\" go build -o whole a.go 2>&1 && objcopy --strip-all whole stripped 2>&1"),
      "");
  std::map<uint64_t, NmSymbol> functions;
  for (const NmSymbol& symbol : Nm("", whole)) {
    if (symbol.name.starts_with("runtime.") || symbol.name.starts_with("main."))
      functions[symbol.start] = symbol;
  }
  ASSERT_GT(functions.size(), 500u);
  std::vector<uint64_t> addresses;
  for (auto& [start, symbol] : functions) {
    if (symbol.size > 1) addresses.insert(addresses.end(), {start, start + symbol.size - 1});
  }
  std::vector<std::string> names = Names({stripped, BuildIdOf(stripped)}, addresses);
  size_t wrong = 0;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const NmSymbol& symbol = std::prev(functions.upper_bound(addresses[i]))->second;
    std::string name = symbol.name.substr(0, symbol.name.find(".abi0"));
    if (names[i] != name && ++wrong < 5) ADD_FAILURE() << names[i] << ", nm has " << symbol.name;
  }
  EXPECT_EQ(wrong, 0u) << "of " << addresses.size();
}

asm(R"(
.text
.globl UnwoundByNobody
.type UnwoundByNobody, @function
UnwoundByNobody:
  .fill 200, 1, 0x90
  ret
.size UnwoundByNobody, . - UnwoundByNobody
)");

// As GMP's or x264's: where its functions begin is not known, but where it does.
TEST(ElfSymbols, CallsCodeWithoutUnwindInformationAfterItsBeginning) {
  testing::ScratchDirectory directory;
  std::string stripped = directory.File("stripped_copy");
  ASSERT_EQ(Output("objcopy --strip-all '" + OwnPath() + "' '" + stripped + "' 2>&1"), "");
  uint64_t start = 0;
  for (const NmSymbol& symbol : Nm("", OwnPath())) {
    if (symbol.name == "UnwoundByNobody") start = symbol.start;
  }
  ASSERT_NE(start, 0u);
  std::vector<std::string> names = Names({stripped, BuildIdOf(stripped)}, {start, start + 100, start + 200});
  unsigned long named = 0;
  ASSERT_EQ(sscanf(names[0].c_str(), "stripped_copy+0x%lx", &named), 1) << names[0];
  EXPECT_LE(named, start);
  EXPECT_LT(start - named, 64u) << "more than the padding behind the function in front of it";
  EXPECT_EQ(names[1], names[0]);
  EXPECT_EQ(names[2], names[0]);
}

// Chromium is built with frame pointers and nearly no unwind tables: 90 MiB of it are not one function.
TEST(ElfSymbols, TakesNoWholeProgramForAssemblyWithoutUnwindInformation) {
  constexpr uint64_t kText = 0x10000;
  struct Small {
    Elf64_Ehdr elf;
    Elf64_Shdr sections[5];  // null, text, unwind table and its index, names
    char names[64];
    struct {
      uint8_t version, pointer_encoding, count_encoding, table_encoding;
      int32_t frames;
      uint32_t count;
      int32_t entries[2][2];
    } index;
    struct {
      uint32_t length, cie;
      int32_t begin;
      uint32_t size;
    } frames[2];
  } file;
  // `shift`: what an encoding adds to where the functions begin, as their entries say it.
  auto names_with = [&](uint64_t second, uint64_t end, int32_t shift = 0) {
    std::memset(static_cast<void*>(&file), 0, sizeof file);
    std::ifstream(OwnPath(), std::ios::binary).read(reinterpret_cast<char*>(&file.elf), sizeof file.elf);
    file.elf.e_phnum = 0;
    file.elf.e_shoff = offsetof(Small, sections);
    file.elf.e_shnum = 5;
    file.elf.e_shstrndx = 4;
    std::memcpy(file.names, "\0.text\0.eh_frame\0.eh_frame_hdr", 31);
    auto section = [&](int at, uint32_t name, uint64_t address, size_t offset, uint64_t size) {
      file.sections[at].sh_name = name;
      file.sections[at].sh_type = SHT_PROGBITS;
      file.sections[at].sh_addr = address;
      file.sections[at].sh_offset = offset;
      file.sections[at].sh_size = size;
    };
    section(1, 1, kText, 0, end - kText);
    file.sections[1].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
    section(2, 7, offsetof(Small, frames), offsetof(Small, frames), sizeof file.frames);
    section(3, 17, offsetof(Small, index), offsetof(Small, index), sizeof file.index);
    section(4, 0, 0, offsetof(Small, names), sizeof file.names);
    file.index = {1, 0x1b, 0x03, 0x3b, 0, 2, {}};
    for (int i = 0; i < 2; ++i) {
      uint64_t function = i == 0 ? kText : second, fde = offsetof(Small, frames) + i * sizeof file.frames[0];
      file.index.entries[i][0] = static_cast<int32_t>(function - offsetof(Small, index));
      file.index.entries[i][1] = static_cast<int32_t>(fde - offsetof(Small, index));
      file.frames[i] = {12, 1, static_cast<int32_t>(function - fde - 8) + shift, 0x100};
    }
    testing::ScratchDirectory directory;
    std::string path = directory.File("program");
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&file), sizeof file);
    std::vector<std::string> names =
        Names({path, {}}, {kText + 0x80, kText + 0x1000, second, second + 0x1000});
    return names;
  };
  constexpr uint64_t kMiB = 1 << 20;
  using Expected = std::vector<std::string>;
  EXPECT_EQ(names_with(4 * kMiB, 8 * kMiB),
            (Expected{"program+0x10000", "program+0x10100", "program+0x400000", "program+0x400100"}));
  EXPECT_EQ(names_with(90 * kMiB, 180 * kMiB), (Expected{"program+0x10000", "", "program+0x5a00000", ""}));
  EXPECT_EQ(names_with(4 * kMiB, 8 * kMiB, 16), (Expected{"", "", "", ""}))
      << "a size of an entry that is not understood";
}

// `ld --build-id=0x...` takes as many bytes as one gives it; a ledger keeps 32.
TEST(ElfReader, KnowsALongBuildIdByItsBeginning) {
  struct {
    Elf64_Ehdr elf;
    Elf64_Phdr notes;
    Elf64_Nhdr note;
    char owner[4];
    uint8_t build_id[40];
  } bytes = {};
  std::ifstream(OwnPath(), std::ios::binary).read(reinterpret_cast<char*>(&bytes.elf), sizeof bytes.elf);
  bytes.elf.e_phoff = offsetof(decltype(bytes), notes);
  bytes.elf.e_phnum = 1;
  bytes.elf.e_shoff = 0;
  bytes.notes.p_type = PT_NOTE;
  bytes.notes.p_offset = offsetof(decltype(bytes), note);
  bytes.notes.p_filesz = sizeof bytes - offsetof(decltype(bytes), note);
  bytes.notes.p_align = 4;
  bytes.note = {4, sizeof bytes.build_id, NT_GNU_BUILD_ID};
  std::memcpy(bytes.owner, "GNU", 4);
  for (uint8_t i = 0; i < sizeof bytes.build_id; ++i) bytes.build_id[i] = i;
  testing::ScratchDirectory directory;
  std::string path = directory.File("program");
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  Arena arena;
  ElfReader file(arena);
  ASSERT_TRUE(file.Open(path.c_str()));
  std::vector<uint8_t> kept(bytes.build_id, bytes.build_id + 32);
  EXPECT_TRUE(file.HasBuildId(kept));
  kept.back() ^= 1;
  EXPECT_FALSE(file.HasBuildId(kept));
  EXPECT_FALSE(file.HasBuildId(std::vector<uint8_t>(41))) << "longer than the file's";
}

}  // namespace
}  // namespace profagent
