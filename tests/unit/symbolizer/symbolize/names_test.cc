// What functions are called: by their debug information, their symbols, or not at all.
#include <sys/auxv.h>

#include "symbolizer/symbolize/elf_file.h"
#include "tests/unit/symbolizer/symbolize/symbolize_fixture.h"

namespace profagent {
namespace {

TEST_F(SymbolizeTest, FallsBackToTheSymbolTable) {
  ASSERT_TRUE(Build("g++", "-O2"));
  Profile profile = MarkerProfile();
  EXPECT_EQ(Symbolized(&profile), "sample::outer(int, char const*) :0");
  EXPECT_EQ(Report().found, SymbolsFound::kSymbols);
  EXPECT_TRUE(profile.mapping(0).has_functions());
  EXPECT_FALSE(profile.mapping(0).has_line_numbers());
  EXPECT_NE(Report().Text().find("compile it with -g"), std::string::npos) << Report().Text();
}

TEST_F(SymbolizeTest, ReplacesTheNamesThatTheAgentEmbedded) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  AddLine(&profile, "_ZN6sample5outerEiPKc", 0);
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
  EXPECT_EQ(profile.function_size(), 3) << "the old function is gone";
  const auto& mapping = profile.mapping(0);
  EXPECT_TRUE(mapping.has_functions() && mapping.has_filenames() && mapping.has_line_numbers() &&
              mapping.has_inline_frames());
  const auto& outer = profile.function(2);
  EXPECT_EQ(profile.string_table(static_cast<int>(outer.system_name())), "_ZN6sample5outerEiPKc");
  EXPECT_EQ(outer.start_line(), 12);
}

TEST_F(SymbolizeTest, KeepsANameThatNothingBetterIsFoundFor) {
  ASSERT_TRUE(Build("g++", "-O2"));
  Profile profile = MarkerProfile();
  ASSERT_TRUE(directory_.Run("strip sample"));
  AddLine(&profile, "embedded_by_the_agent", 0);
  EXPECT_EQ(Symbolized(&profile), "embedded_by_the_agent :0");
}

// An exported label of a stripped file is a guess; the agent may have known the function's start from the unwind table.
TEST_F(SymbolizeTest, GuessesByAnExportedLabelOnlyWhereThereIsNoName) {
  directory_.Write("code.s",
                   ".text\n.globl marker\nmarker: .skip 64\n.section .note.GNU-stack,\"\",@progbits\n");
  ASSERT_TRUE(
      directory_.Run("gcc -c code.s -o code.o && ld -shared --build-id code.o -o code.so && strip code.so"));
  binary_ = directory_ / "code.so";
  Profile without_name = MarkerProfile();
  EXPECT_EQ(Symbolized(&without_name), "marker :0");
  Profile with_name = MarkerProfile();
  AddLine(&with_name, "code.so+0x7", 0);
  EXPECT_EQ(Symbolized(&with_name), "code.so+0x7 :0");
  Profile with_address = MarkerProfile();
  FixedText<64> address;
  AddLine(&with_address, address.Add("code.so+", Hex{Address("marker")}).c_str(), 0);
  EXPECT_EQ(Symbolized(&with_address), "marker :0");
}

// What Fedora's packages are: the symbols that .dynsym lacks, compressed in a section of the stripped file.
class MiniDebugInfoTest : public SymbolizeTest {
 protected:
  void SetUp() override {
    SymbolizeTest::SetUp();
    ASSERT_TRUE(Build("g++", "-O2"));
    profile_ = MarkerProfile();
    ASSERT_TRUE(
        directory_.Run("nm sample --format=posix --defined-only | awk '$2 ~ /[Tt]/ {print $1}' >functions && "
                       "objcopy --only-keep-debug sample debug && "
                       "objcopy -S -R .comment --keep-symbols=functions debug mini && strip sample"));
  }
  bool Embed(const std::string& file) {
    return directory_.Run("objcopy -R .gnu_debugdata sample && objcopy --add-section .gnu_debugdata=" + file +
                          " sample");
  }

  Profile profile_;
};

TEST_F(MiniDebugInfoTest, NamesFunctionsOfAStrippedFile) {
  Profile without = profile_;
  EXPECT_EQ(Symbolized(&without).find("sample+0x"), 0u);
  for (const char* how : {"xz -0", "xz -9e", "xz --check=none"}) {
    ASSERT_TRUE(directory_.Run(std::string(how) + " -c mini >mini.xz"));
    ASSERT_TRUE(Embed("mini.xz"));
    Profile profile = profile_;
    EXPECT_EQ(Symbolized(&profile), "sample::outer(int, char const*) :0") << how;
    EXPECT_EQ(Report().found, SymbolsFound::kSymbols);
  }
}

// By gdb's manual it has no weak functions. In front of them frame_dummy may stand, which has no size.
TEST_F(MiniDebugInfoTest, FunctionsThatItLeavesOutHaveNoOthersNames) {
  ASSERT_TRUE(
      directory_.Run("objcopy -S -R .comment --keep-symbol=frame_dummy debug mini && xz -c mini >mini.xz"));
  ASSERT_TRUE(Embed("mini.xz"));
  EXPECT_EQ(Symbolized(&profile_).find("sample+0x"), 0u);
}

// Assembly: no size, and nothing in the unwind information.
TEST_F(MiniDebugInfoTest, NamesALabelWithoutASize) {
  directory_.Write("code.s",
                   ".text\nlabel: .skip 8192\nmarker: nop\n.section .note.GNU-stack,\"\",@progbits\n");
  ASSERT_TRUE(
      directory_.Run("gcc -c code.s && "
                     "echo 'int exported(int x) { return x; }' >c.c && gcc -O2 -fPIC -c c.c && "
                     "gcc -shared c.o code.o -o code.so"));
  binary_ = directory_ / "code.so";
  profile_ = MarkerProfile();
  ASSERT_TRUE(
      directory_.Run("objcopy --only-keep-debug code.so debug && "
                     "objcopy -S -R .comment --keep-symbol=label debug mini && xz -c mini >mini.xz && "
                     "strip code.so && objcopy --add-section .gnu_debugdata=mini.xz code.so"));
  EXPECT_EQ(Symbolized(&profile_), "label :0");
}

TEST_F(MiniDebugInfoTest, SaysWhatIsWrongWithIt) {
  ASSERT_TRUE(
      directory_.Run("xz -c mini >mini.xz && head -c 500 mini.xz >short.xz && "
                     "{ head -c 200 mini.xz; printf damage; tail -c +207 mini.xz; } >damaged.xz && "
                     "head -c 300M /dev/zero | xz -0 -c >large.xz && echo text | xz -c >text.xz && "
                     "xz --lzma2=dict=128MiB -c mini >hungry.xz"));
  for (auto [file, problem] : {std::pair("short.xz", "damaged"),
                               {"damaged.xz", "damaged"},
                               {"mini", "damaged"},
                               {"large.xz", "more than 256 MiB"},
                               {"text.xz", "not an ELF file"},
                               {"hungry.xz", "needs more memory than xz -9 does"}}) {
    ASSERT_TRUE(Embed(file));
    Profile profile = profile_;
    EXPECT_EQ(Symbolized(&profile).find("sample+0x"), 0u) << file;
    EXPECT_NE(Report().Text().find("sample (.gnu_debugdata): " + std::string(problem)), std::string::npos)
        << file << ": " << Report().Text();
  }
}

TEST_F(SymbolizeTest, NamesCodeThatNoFileHas) {
  Profile profile;
  for (const char* text : {"", "//anon"}) profile.add_string_table(text);
  auto* mapping = profile.add_mapping();
  mapping->set_id(1);
  mapping->set_memory_start(0x7000);
  mapping->set_memory_limit(0x9000);
  mapping->set_filename(1);
  auto* location = profile.add_location();
  location->set_id(1);
  location->set_mapping_id(1);
  location->set_address(0x7010);
  EXPECT_EQ(Symbolized(&profile), "anon+0x10 :0");
  EXPECT_NE(Report().problem.find("made while the program ran"), std::string::npos);
}

TEST_F(SymbolizeTest, NamesFunctionsOfTheVdso) {
  auto vdso = ElfFile::OpenVdso();
  if (!vdso) GTEST_SKIP() << vdso.error().text.view();
  Profile profile;
  for (const std::string& text : {std::string(), std::string("[vdso]"), (*vdso)->build_id()}) {
    profile.add_string_table(text);
  }
  uint64_t start = getauxval(AT_SYSINFO_EHDR);
  auto* mapping = profile.add_mapping();
  mapping->set_id(1);
  mapping->set_memory_start(start);
  mapping->set_memory_limit(start + 8192);
  mapping->set_filename(1);
  mapping->set_build_id(2);
  auto* location = profile.add_location();
  location->set_id(1);
  location->set_mapping_id(1);
  std::vector<uint64_t> address = testing::SymbolAddresses(**vdso, "__vdso_clock_gettime");
  ASSERT_EQ(address.size(), 1u);
  location->set_address(start + address[0]);
  std::string name = Symbolized(&profile);
  EXPECT_TRUE(name == "clock_gettime :0" || name == "__vdso_clock_gettime :0") << name;
  profile.set_string_table(2, "0123456789abcdef");
  profile.mutable_location(0)->clear_line();
  EXPECT_EQ(Symbolized(&profile).find("[vdso]+0x"), 0u);
  EXPECT_NE(Report().problem.find("another kernel"), std::string::npos);
}

// GCC gives functions of internal linkage no linkage name: a row called `helper` or `operator()` says little.
TEST_F(SymbolizeTest, QualifiesNamesThatHaveNoLinkageName) {
  directory_.Write("sample.cc", R"(namespace app { namespace {
volatile int sink;
struct Worker {
  __attribute__((always_inline)) void Step(int x) { __asm__ volatile(".globl marker\nmarker: nop"); sink = x; }
};
__attribute__((always_inline)) inline void helper(int x) { Worker().Step(x); }
}  // namespace
__attribute__((noinline)) int outer(int x) {
  auto step = [](auto y) __attribute__((always_inline)) { helper(y); };
  auto run = [&](int y) __attribute__((always_inline)) { step(y); };
  run(x);
  return sink;
}
}  // namespace app
)");
  directory_.Write(
      "main.cc",
      "namespace app { int outer(int); }\nint main(int argc, char**) { return app::outer(argc); }\n");
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  EXPECT_EQ(
      Symbolized(&profile),
      "app::(anonymous namespace)::Worker::Step sample.cc:4 < app::(anonymous namespace)::helper sample.cc:6 "
      "< "
      "app::outer(int)::{lambda}::operator()<int> sample.cc:9 < "
      "app::outer(int)::{lambda}::operator() sample.cc:10 < app::outer(int) sample.cc:11");
  // What the linker would say is still what it says.
  const auto& step = profile.function(0);
  EXPECT_EQ(profile.string_table(static_cast<int>(step.system_name())), "Step");
}

// Identical functions that were folded have one address and several names; the debug information knows whose code it is.
TEST_F(SymbolizeTest, ChoosesTheNameThatTheCodeWasCompiledUnder) {
  directory_.Write(
      "sample.cc",
      "extern \"C\" int zebra(int x) { __asm__ volatile(\".globl marker\\nmarker: nop\"); return x; }\n"
      "extern \"C\" int aardvark(int) __attribute__((alias(\"zebra\")));\n");
  directory_.Write("main.cc",
                   "extern \"C\" int zebra(int);\nint main(int argc, char**) { return zebra(argc); }\n");
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  EXPECT_EQ(Symbolized(&profile), "zebra sample.cc:1");
}

TEST_F(SymbolizeTest, KnowsRust) {
  if (!testing::HasProgram("rustc")) GTEST_SKIP() << "rustc is not installed";
  directory_.Write("sample.rs", R"(mod work {
    #[inline(always)]
    pub fn inner(value: u64) -> u64 {
        unsafe { std::arch::asm!(".globl marker", "marker: nop"); }
        value * 3
    }
    pub trait Job { fn run(&self) -> u64; }
    pub struct Task(pub u64);
    impl Job for Task {
        #[inline(never)]
        fn run(&self) -> u64 { inner(self.0) + 1 }
    }
}
use work::Job;
fn main() { println!("{}", work::Task(std::env::args().count() as u64).run()); }
)");
  for (const char* mangling : {"", "-C symbol-mangling-version=v0"}) {
    ASSERT_TRUE(
        directory_.Run(std::string("rustc -A named_asm_labels -g -O ") + mangling + " sample.rs -o sample"));
    binary_ = directory_ / "sample";
    Profile profile = MarkerProfile();
    EXPECT_EQ(Symbolized(&profile),
              "sample::work::inner sample.rs:4 < <sample::work::Task as sample::work::Job>::run sample.rs:11")
        << mangling;
  }
}

}  // namespace
}  // namespace profagent
