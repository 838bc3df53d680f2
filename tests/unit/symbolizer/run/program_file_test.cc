#include "symbolizer/run/program_file.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace profagent {
namespace {

namespace fs = std::filesystem;

class ProgramFileTest : public ::testing::Test {
 protected:
  ProgramFileTest() {
    std::string name = "/tmp/profagent-program-file-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~ProgramFileTest() override { fs::remove_all(directory_); }

  fs::path Make(const std::string& name, const std::string& content, mode_t mode = 0755) {
    fs::path path = directory_ / name;
    std::ofstream(path, std::ios::binary) << content;
    chmod(path.c_str(), mode);
    return path;
  }

  // An ELF file with one program header of that type.
  static std::string Elf(uint16_t machine, uint32_t segment_type, const std::string& loader) {
    Elf64_Ehdr header = {};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_machine = machine;
    header.e_phoff = sizeof header;
    header.e_phnum = 1;
    header.e_phentsize = sizeof(Elf64_Phdr);
    Elf64_Phdr segment = {};
    segment.p_type = segment_type;
    segment.p_offset = sizeof header + sizeof segment;
    segment.p_filesz = loader.size() + 1;
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(reinterpret_cast<const char*>(&segment), sizeof segment);
    bytes.append(loader).push_back('\0');
    return bytes;
  }

  fs::path directory_;
};

TEST_F(ProgramFileTest, SearchesThePathAsExecvpDoes) {
  fs::create_directory(directory_ / "tool");  // a directory of that name is passed over
  fs::create_directory(directory_ / "bin");
  std::ofstream(directory_ / "bin" / "tool") << "#!/bin/sh\n";
  chmod((directory_ / "bin" / "tool").c_str(), 0755);
  const std::string path = "/nonexistent:" + directory_.string() + ":" + (directory_ / "bin").string();
  Result<std::string> found = FindProgram("tool", path.c_str());
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, directory_ / "bin" / "tool");
}

TEST_F(ProgramFileTest, SaysThatACommandIsNotThere) {
  for (const char* name : {"no-such-command-at-all", "/no/such/file", ""}) {
    Result<std::string> found = FindProgram(name, "/usr/bin:/bin");
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code, ENOENT) << name;
  }
}

TEST_F(ProgramFileTest, SaysWhyAFileCannotBeExecuted) {
  fs::path plain = Make("plain", "text", 0644);
  Result<std::string> found = FindProgram(plain, nullptr);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, EACCES);
  found = FindProgram("plain", directory_.c_str());
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, EACCES);
  found = FindProgram(directory_, nullptr);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, EISDIR);
}

TEST_F(ProgramFileTest, HasNothingToSayAboutAnOrdinaryProgram) {
  EXPECT_EQ(WhyNotPreloadable("/bin/sh"), "");
  EXPECT_EQ(WhyNotPreloadable(Make("script", "#!/bin/sh\necho\n")), "");
  EXPECT_EQ(WhyNotPreloadable(Make("no-shebang", "echo\n")), "");
}

// A static binary's empty profile would look like a program without work.
TEST_F(ProgramFileTest, RecognizesAStaticBinary) {
  EXPECT_NE(WhyNotPreloadable(Make("static", Elf(EM_X86_64, PT_LOAD, ""))).find("statically"),
            std::string::npos);
}

TEST_F(ProgramFileTest, RecognizesMuslAndOtherMachines) {
  EXPECT_NE(
      WhyNotPreloadable(Make("musl", Elf(EM_X86_64, PT_INTERP, "/lib/ld-musl-x86_64.so.1"))).find("musl"),
      std::string::npos);
  EXPECT_EQ(WhyNotPreloadable(Make("glibc", Elf(EM_X86_64, PT_INTERP, "/lib64/ld-linux-x86-64.so.2"))), "");
  EXPECT_NE(
      WhyNotPreloadable(Make("arm", Elf(EM_AARCH64, PT_INTERP, "/lib/ld-linux-aarch64.so.1"))).find("x86-64"),
      std::string::npos);
}

TEST_F(ProgramFileTest, LooksThroughAScriptAtItsInterpreter) {
  fs::path interpreter = Make("static", Elf(EM_X86_64, PT_LOAD, ""));
  fs::path script = Make("script", "#! " + interpreter.string() + " -x\n");
  EXPECT_NE(WhyNotPreloadable(script).find("statically"), std::string::npos);
  fs::path loop = directory_ / "loop";
  EXPECT_EQ(WhyNotPreloadable(Make("loop", "#!" + loop.string() + "\n")), "") << "must end";
}

TEST_F(ProgramFileTest, SurvivesDamagedFiles) {
  const std::string whole = Elf(EM_X86_64, PT_INTERP, "/lib64/ld-linux-x86-64.so.2");
  for (size_t size = 0; size < whole.size(); ++size) WhyNotPreloadable(Make("cut", whole.substr(0, size)));
  EXPECT_EQ(WhyNotPreloadable(Make("empty", "")), "");
  EXPECT_EQ(WhyNotPreloadable(Make("hash", "#!")), "");
  EXPECT_EQ(WhyNotPreloadable(Make("blank", "#!  \n")), "");
}

TEST_F(ProgramFileTest, RecognizesASetuidProgramOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make one";
  fs::path program = Make("setuid", Elf(EM_X86_64, PT_INTERP, "/lib64/ld-linux-x86-64.so.2"));
  EXPECT_EQ(chown(program.c_str(), 65534, 65534), 0);
  chmod(program.c_str(), 04755);
  EXPECT_NE(WhyNotPreloadable(program).find("setuid"), std::string::npos);
  chmod(program.c_str(), 02755);
  EXPECT_NE(WhyNotPreloadable(program).find("setgid"), std::string::npos);
}

}  // namespace
}  // namespace profagent
