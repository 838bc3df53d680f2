#include "symbolizer/check/check_binary.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent {
namespace {

constexpr char kProgram[] = R"(
#include <stdio.h>
int main(void) { puts("hello"); return 0; }
)";

class CheckBinaryTest : public ::testing::Test {
 protected:
  void SetUp() override { directory_.Write("program.c", kProgram); }

  bool Build(const std::string& flags, const std::string& compiler = "gcc") {
    return directory_.Run(compiler + " program.c -o program " + flags);
  }

  CheckReport Check(const std::string& name = "program") {
    Result<CheckReport> report = CheckBinary(directory_ / name);
    EXPECT_TRUE(report) << report.error().text.view();
    return report ? *report : CheckReport{};
  }

  std::string ErrorOf(const std::string& path) {
    Result<CheckReport> report = CheckBinary(path);
    EXPECT_FALSE(report);
    return std::string(report.error().text.view());
  }

  // The finding of that weight whose text has `words`; what was found instead when there is none.
  static ::testing::AssertionResult Has(const CheckReport& report, Verdict verdict,
                                        const std::string& words) {
    std::string all;
    for (const Finding& finding : report.findings) {
      if (finding.verdict == verdict && finding.Text().find(words) != std::string::npos) {
        return ::testing::AssertionSuccess();
      }
      all += finding.Text() + "\n";
    }
    return ::testing::AssertionFailure() << "no finding has \"" << words << "\" in\n" << all;
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(CheckBinaryTest, HasNothingAgainstAnOrdinaryProgram) {
  ASSERT_TRUE(Build("-g -O2"));
  CheckReport report = Check();
  EXPECT_EQ(report.VerdictText(), "verdict: profiling works");
  EXPECT_TRUE(Has(report, Verdict::kFine, "glibc"));
  EXPECT_TRUE(Has(report, Verdict::kFine, "debug information"));
  EXPECT_EQ(report.findings.size(), 2u);
}

TEST_F(CheckBinaryTest, SaysThatDebugInformationIsCompressedInAnUnknownWay) {
  ASSERT_TRUE(Build("-g -O2 -gz=zlib"));
  ASSERT_TRUE(testing::SpoilCompression(directory_, "program"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "compressed in a way"));
}

// LD_PRELOAD on these does nothing at all, without a word: the user would wait for a file that never comes.
TEST_F(CheckBinaryTest, BlocksStaticPrograms) {
  for (const char* flags : {"-static", "-static-pie"}) {
    ASSERT_TRUE(Build(flags));
    CheckReport report = Check();
    EXPECT_EQ(report.verdict(), Verdict::kBlocked);
    EXPECT_TRUE(Has(report, Verdict::kBlocked, "statically linked")) << flags;
    EXPECT_TRUE(Has(report, Verdict::kBlocked, "link it without -static"));
  }
}

TEST_F(CheckBinaryTest, BlocksOtherArchitectures) {
  // A header is enough, and needs no cross compiler.
  ASSERT_TRUE(Build(""));
  std::string bytes = testing::ReadWhole(directory_ / "program");
  struct {
    uint16_t machine;
    const char* name;
  } const machines[] = {{EM_AARCH64, "AArch64"}, {EM_RISCV, "RISC-V"}, {0x1234, "machine 4660"}};
  for (const auto& machine : machines) {
    std::memcpy(bytes.data() + offsetof(Elf64_Ehdr, e_machine), &machine.machine, sizeof machine.machine);
    directory_.Write("foreign", bytes);
    chmod((directory_ / "foreign").c_str(), 0755);
    EXPECT_TRUE(Has(Check("foreign"), Verdict::kBlocked, machine.name));
  }
  Elf32_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_386;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof header;
  directory_.Write("small", {reinterpret_cast<const char*>(&header), sizeof header});
  chmod((directory_ / "small").c_str(), 0755);
  EXPECT_TRUE(Has(Check("small"), Verdict::kBlocked, "x86 with 32 bits"));
}

// musl's loader does not ignore what it cannot load: it refuses to start the program.
TEST_F(CheckBinaryTest, BlocksMuslByItsLoader) {
  ASSERT_TRUE(Build("-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"));
  EXPECT_TRUE(Has(Check(), Verdict::kBlocked, "musl"));
}

TEST_F(CheckBinaryTest, BlocksAProgramWhoseLoaderIsNotHere) {
  ASSERT_TRUE(Build("-Wl,--dynamic-linker=/nix/store/none/ld-linux-x86-64.so.2"));
  EXPECT_TRUE(Has(Check(), Verdict::kBlocked, "/nix/store/none/ld-linux-x86-64.so.2"));
}

TEST_F(CheckBinaryTest, WarnsOfALoaderThatIsNotTheSystems) {
  ASSERT_TRUE(directory_.Run("cp /lib64/ld-linux-x86-64.so.2 other-loader"));
  ASSERT_TRUE(Build("-Wl,--dynamic-linker=" + (directory_ / "other-loader")));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "libc of its own"));
}

TEST_F(CheckBinaryTest, TellsWhomASetuidBitBlocks) {
  ASSERT_TRUE(Build("-g"));
  std::string path = directory_ / "program";
  chmod(path.c_str(), 04755);
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "setuid: works for you"));
  chmod(path.c_str(), 02755);
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "setgid: works for you"));
  chmod(path.c_str(), 02745);  // mandatory locking, not setgid
  EXPECT_EQ(Check().verdict(), Verdict::kFine);
  if (getuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
  chmod(path.c_str(), 06755);
  EXPECT_TRUE(Has(Check(), Verdict::kBlocked, "setuid, setgid: for the sake of safety"));
}

TEST_F(CheckBinaryTest, BlocksAddressSanitizerOfGcc) {
  ASSERT_TRUE(Build("-g -fsanitize=address"));
  EXPECT_TRUE(Has(Check(), Verdict::kBlocked, "verify_asan_link_order=0"));
}

TEST_F(CheckBinaryTest, WarnsOfOtherSanitizers) {
  ASSERT_TRUE(Build("-g -fsanitize=thread"));
  CheckReport report = Check();
  EXPECT_TRUE(Has(report, Verdict::kLimited, "-fsanitize=thread"));
  EXPECT_EQ(report.verdict(), Verdict::kLimited);
  if (!testing::HasProgram("clang")) return;
  ASSERT_TRUE(Build("-g -fsanitize=address", "clang"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "built with a sanitizer"));
}

TEST_F(CheckBinaryTest, WarnsOfGprof) {
  ASSERT_TRUE(Build("-g -pg"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "PROFAGENT_CPU_SIGNAL"));
}

TEST_F(CheckBinaryTest, WarnsOfMissingUnwindTables) {
  ASSERT_TRUE(Build("-g -Wl,--no-eh-frame-hdr"));
  CheckReport report = Check();
  EXPECT_TRUE(Has(report, Verdict::kLimited, "no .eh_frame_hdr")) << "and the tables are still there";
  ASSERT_TRUE(directory_.Run("objcopy --remove-section=.eh_frame program without"));
  EXPECT_TRUE(Has(Check("without"), Verdict::kLimited, "no .eh_frame, the unwind tables"));
}

// Rust programs with the crate jemallocator call it by these names, which nothing outside can see at run time.
TEST_F(CheckBinaryTest, WarnsOfAnAllocatorUnderNamesOfItsOwn) {
  directory_.Write("allocator.c", R"(
#include <stddef.h>
void* _rjem_malloc(size_t size) { (void)size; return 0; }
)");
  ASSERT_TRUE(Build("-g -fno-builtin allocator.c"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "(_rjem_malloc)"));
  EXPECT_TRUE(std::ranges::any_of(Check().findings, [](const Finding& f) { return !f.small_heap.empty(); }));
  ASSERT_TRUE(Build("-g"));
  EXPECT_FALSE(Has(Check(), Verdict::kLimited, "allocator"));
}

// It is where the remedy would have it: libjemalloc.so, or libc itself, which defines mcount, too.
TEST_F(CheckBinaryTest, HasNothingAgainstALibraryThatIsAnAllocator) {
  ASSERT_TRUE(
      directory_.Run("echo 'void *malloc(unsigned long n) { return (void *)n; } void free(void *p) {} "
                     "void mcount(void) {}' >library.c && "
                     "gcc -g -fno-builtin -fPIC -shared -Wl,-soname,library.so library.c -o library.so"));
  const CheckReport report = Check("library.so");
  EXPECT_FALSE(Has(report, Verdict::kLimited, "malloc"));
  EXPECT_FALSE(Has(report, Verdict::kLimited, "-pg"));
  EXPECT_EQ(report.VerdictText(), "verdict: profiling works");
}

TEST_F(CheckBinaryTest, WarnsOfAnAllocatorInsideTheProgram) {
  directory_.Write("allocator.c", R"(
#include <stddef.h>
void* malloc(size_t size) { (void)size; return 0; }
void free(void* block) { (void)block; }
void* mi_malloc(size_t size) { return malloc(size); }
)");
  ASSERT_TRUE(Build("-g -fno-builtin allocator.c"));
  CheckReport report = Check();
  EXPECT_TRUE(Has(report, Verdict::kLimited, "mimalloc"));
  // `profagent run --heap` says so before the program starts.
  EXPECT_TRUE(std::ranges::any_of(report.findings, [](const Finding& finding) {
    return finding.empty_heap == "defines malloc and free itself (mimalloc)";
  }));
}

TEST_F(CheckBinaryTest, SaysWhatNamesAndLinesToExpect) {
  ASSERT_TRUE(Build(""));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "no files, lines and inlined calls"));
  ASSERT_TRUE(directory_.Run("strip program"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "program+0x1f"));
  ASSERT_TRUE(directory_.Run("objcopy --add-section .gnu_debugdata=program.c program"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "compressed (.gnu_debugdata)"));
  // A separate debug file, as distributions install it.
  ASSERT_TRUE(Build("-g"));
  ASSERT_TRUE(
      directory_.Run("objcopy --only-keep-debug program program.debug && strip program && "
                     "objcopy --add-gnu-debuglink=program.debug program"));
  EXPECT_TRUE(Has(Check(), Verdict::kFine, directory_ / "program.debug"));
  // And one that belongs to another build.
  ASSERT_TRUE(
      directory_.Run("gcc -O3 -g program.c -o other && objcopy --only-keep-debug other program.debug"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "program.debug: not used: its build-id is"));
}

TEST_F(CheckBinaryTest, WarnsOfAMissingBuildId) {
  ASSERT_TRUE(Build("-g -Wl,--build-id=none"));
  EXPECT_TRUE(Has(Check(), Verdict::kLimited, "no build-id"));
}

TEST_F(CheckBinaryTest, LooksAtTheInterpreterOfAScript) {
  ASSERT_TRUE(Build("-static"));
  directory_.Write("inner", "#! " + (directory_ / "program") + " -x\n");
  directory_.Write("outer", "#!" + (directory_ / "inner") + "\nexit\n");
  ASSERT_TRUE(directory_.Run("chmod +x inner outer"));
  CheckReport report = Check("outer");
  EXPECT_EQ(report.path, directory_ / "program");
  EXPECT_TRUE(Has(report, Verdict::kFine, "its interpreter, " + (directory_ / "inner")));
  EXPECT_TRUE(Has(report, Verdict::kBlocked, "statically linked"));
}

TEST_F(CheckBinaryTest, FollowsEnvAlongPath) {
  for (const char* line : {"#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh -e\n", "#!/usr/bin/env\tsh",
                           "#!/usr/bin/env -Ssh -e\n", "#!/usr/bin/env -S -i -u HOME LANG=C sh\n"}) {
    directory_.Write("script", line);
    ASSERT_TRUE(directory_.Run("chmod +x script"));
    EXPECT_TRUE(Has(Check("script"), Verdict::kFine, "bin/sh")) << line;
  }
}

// The kernel does not find "/bin/sh\r": a script of another system does not start.
TEST_F(CheckBinaryTest, SaysThatALineOfAnotherSystemNamesNoInterpreter) {
  for (const char* line : {"#!/bin/sh\r\nexit\r\n", "#!/usr/bin/env sh\r\n"}) {
    directory_.Write("script", line);
    ASSERT_TRUE(directory_.Run("chmod +x script"));
    EXPECT_NE(ErrorOf(directory_ / "script").find("ends in CR LF"), std::string::npos) << line;
  }
  directory_.Write("script", "#!/bin/sh -e\r\n");
  EXPECT_TRUE(Has(Check("script"), Verdict::kFine, "bin/sh"));
}

TEST_F(CheckBinaryTest, EndsAtAScriptThatInterpretsItself) {
  directory_.Write("loop", "#!" + (directory_ / "loop") + "\n");
  ASSERT_TRUE(directory_.Run("chmod +x loop"));
  EXPECT_NE(ErrorOf(directory_ / "loop").find("names no interpreter"), std::string::npos);
}

TEST_F(CheckBinaryTest, SaysThatAFileIsNotExecutable) {
  ASSERT_TRUE(Build("-g"));
  chmod((directory_ / "program").c_str(), 0644);
  EXPECT_TRUE(Has(Check(), Verdict::kBlocked, "not executable"));
}

TEST_F(CheckBinaryTest, KnowsLibrariesObjectFilesAndDebugFiles) {
  ASSERT_TRUE(directory_.Run("gcc -g -shared -fPIC program.c -o library.so && gcc -c program.c"));
  EXPECT_TRUE(Has(Check("library.so"), Verdict::kFine, "a shared library"));
  EXPECT_TRUE(Has(Check("program.o"), Verdict::kBlocked, "an object file"));
  ASSERT_TRUE(directory_.Run("objcopy --only-keep-debug library.so library.debug"));
  EXPECT_TRUE(Has(Check("library.debug"), Verdict::kBlocked, "a separate debug file"));
}

// It was "statically linked" when the cut took the loader's name, and "ok" when it took the code behind it.
TEST_F(CheckBinaryTest, SaysThatAProgramIsCutShort) {
  ASSERT_TRUE(Build("-g"));
  const std::string whole = testing::ReadWhole(directory_ / "program");
  for (size_t size : {100, 3000}) {
    directory_.Write("cut", whole.substr(0, size));
    CheckReport report = Check("cut");
    EXPECT_TRUE(
        Has(report, Verdict::kBlocked, "cut short: it has " + std::to_string(size) + " bytes of the "));
    EXPECT_FALSE(Has(report, Verdict::kBlocked, "statically linked"));
    EXPECT_FALSE(Has(report, Verdict::kFine, ""));
  }
}

TEST_F(CheckBinaryTest, NamesWhatIsNoProgram) {
  std::string missing = directory_ / "missing";
  EXPECT_EQ(ErrorOf(missing), missing + ": No such file or directory");
  EXPECT_EQ(ErrorOf(directory_.path()), directory_.path() + ": is a directory");
  EXPECT_EQ(ErrorOf("/dev/null"), "/dev/null: not a regular file");
  std::string text = directory_.Write("text", "hello");
  EXPECT_EQ(ErrorOf(text), text + ": neither an ELF file nor a script with #!");
  std::string empty = directory_.Write("empty", "");
  EXPECT_EQ(ErrorOf(empty), empty + ": is empty");
  std::string cut = directory_.Write("cut", std::string("\177ELF", 4));
  EXPECT_NE(ErrorOf(cut).find(cut), std::string::npos);
  std::string script = directory_.Write("script", "#!\n");
  EXPECT_NE(ErrorOf(script).find("names no interpreter"), std::string::npos);
  if (getuid() == 0) return;  // may read everything
  ASSERT_TRUE(Build(""));
  chmod((directory_ / "program").c_str(), 0111);
  EXPECT_EQ(ErrorOf(directory_ / "program"), (directory_ / "program") + ": Permission denied");
}

// A damaged file may make us say nonsense about it, but not crash.
TEST_F(CheckBinaryTest, SurvivesDamagedFiles) {
  ASSERT_TRUE(Build("-g"));
  const std::string whole = testing::ReadWhole(directory_ / "program");
  for (size_t i = 0; i < 400; ++i) {
    std::string bytes = whole;
    if (i % 2 == 0) {
      bytes.resize(whole.size() * i / 400 + 4);
    } else {
      // Headers and section headers: where offsets and counts are.
      size_t at = i % 4 == 1 ? i % 256 : bytes.size() - 1 - i * 7 % 2000;
      bytes[at] = static_cast<char>(i * 37);
    }
    std::string path = directory_.Write("damaged", bytes);
    (void)CheckBinary(path);
  }
}

}  // namespace
}  // namespace profagent
