#include "agent/base/program_loader.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace profagent {
namespace {

namespace fs = std::filesystem;

class ProgramLoaderTest : public ::testing::Test {
 protected:
  ProgramLoaderTest() {
    std::string name = "/tmp/profagent-program-loader-XXXXXX";
    directory_ = mkdtemp(name.data());
    library_ = "LD_PRELOAD=" + Write("libprofagent.so", "");
  }
  ~ProgramLoaderTest() override { fs::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    const fs::path path = directory_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    chmod(path.c_str(), 0755);
    return path;
  }
  FateOfPreload Fate(const std::string& program, const std::string& more = "A=1") {
    std::string variable = more;
    char* environment[] = {library_.data(), variable.data(), nullptr};
    return FateIn({AT_FDCWD, program.c_str(), false}, environment);
  }
  // One segment, which says `loader`; empty: none.
  static std::string Program(const std::string& loader, uint16_t machine = EM_X86_64,
                             unsigned char bits = ELFCLASS64) {
    Elf64_Ehdr header = {};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = bits;
    header.e_type = ET_EXEC;
    header.e_machine = machine;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = loader.empty() ? 0 : 1;
    header.e_phoff = sizeof header;
    Elf64_Phdr segment = {};
    segment.p_type = PT_INTERP;
    segment.p_offset = sizeof header + sizeof segment;
    segment.p_filesz = loader.size() + 1;
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    if (!loader.empty()) bytes.append(reinterpret_cast<const char*>(&segment), sizeof segment);
    return bytes + loader + '\0';
  }

  fs::path directory_;
  std::string library_;
};

TEST_F(ProgramLoaderTest, GlibcsLoaderLoadsUs) {
  EXPECT_EQ(Fate("/bin/sh"), FateOfPreload::kLoaded);
  EXPECT_EQ(Fate(Write("p", Program("/lib64/ld-linux-x86-64.so.2"))), FateOfPreload::kLoaded);
}

TEST_F(ProgramLoaderTest, MuslsEndsTheProgram) {
  EXPECT_EQ(Fate(Write("p", Program("/lib/ld-musl-x86_64.so.1"))), FateOfPreload::kKilled);
}

TEST_F(ProgramLoaderTest, NobodyLoadsUsIntoAStaticProgramOrIntoAnotherMachines) {
  EXPECT_EQ(Fate(Write("p", Program(""))), FateOfPreload::kIgnored);
  EXPECT_EQ(Fate(Write("p", Program("/lib/ld-linux-aarch64.so.1", EM_AARCH64))), FateOfPreload::kIgnored);
  EXPECT_EQ(Fate(Write("p", Program("/lib/ld-linux.so.2", EM_386, ELFCLASS32))), FateOfPreload::kIgnored);
}

TEST_F(ProgramLoaderTest, AScriptIsItsInterpreter) {
  const std::string program = Write("static", Program(""));
  const std::string script = Write("script", "#! " + program + " -x\n");
  EXPECT_EQ(Fate(script), FateOfPreload::kIgnored);
  EXPECT_EQ(Fate(Write("of_script", "#!" + script)), FateOfPreload::kIgnored);
  EXPECT_EQ(Fate(Write("of_shell", "#!/bin/sh\n")), FateOfPreload::kLoaded);
  EXPECT_EQ(Fate(Write("itself", "#!" + (directory_ / "itself").string())), FateOfPreload::kLoaded);
  EXPECT_EQ(Fate(Write("of_nothing", "#! \t\n")), FateOfPreload::kLoaded);
}

// The kernel itself refuses them, or execvp hands them to a shell.
TEST_F(ProgramLoaderTest, WhatIsNoProgramIsNotJudged) {
  for (const char* bytes : {"", "#", "#!", "\177ELF", "echo\n"})
    EXPECT_EQ(Fate(Write("p", bytes)), FateOfPreload::kLoaded) << bytes;
  EXPECT_EQ(Fate((directory_ / "missing").string()), FateOfPreload::kLoaded);
  EXPECT_EQ(Fate(directory_.string()), FateOfPreload::kLoaded);
}

TEST_F(ProgramLoaderTest, ADescriptorIsAProgramToo) {
  const std::string program = Write("p", Program(""));
  const int fd = open(program.c_str(), O_RDONLY | O_CLOEXEC);
  char* environment[] = {library_.data(), nullptr};
  EXPECT_EQ(FateIn({fd, "", false}, environment), FateOfPreload::kIgnored);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC) << "it is the caller's";
  close(fd);
}

// In another root.
TEST_F(ProgramLoaderTest, ALibraryThatIsNotThereIsNotLoaded) {
  fs::remove(directory_ / "libprofagent.so");
  EXPECT_EQ(Fate("/bin/sh"), FateOfPreload::kIgnored);
  library_ = "LD_PRELOAD=libprofagent.so";
  EXPECT_EQ(Fate("/bin/sh"), FateOfPreload::kLoaded) << "the loader looks for it elsewhere";
}

// It is looked at in the hook of somebody's exec.
TEST_F(ProgramLoaderTest, SurvivesDamagedPrograms) {
  std::ifstream file("/bin/sh", std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  for (size_t size : {1u, 17u, 63u, 64u, 65u, 500u, 900u}) Fate(Write("cut", bytes.substr(0, size)));
  for (size_t at = 4; at < 1000; ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (at % 2 == 0 ? 0x80 : 0x7f));
    Fate(Write("damaged", damaged));
  }
}

}  // namespace
}  // namespace profagent
