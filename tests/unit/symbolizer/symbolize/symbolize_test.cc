#include "symbolizer/symbolize/symbolize.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "symbolizer/symbolize/elf_file.h"
#include "tests/unit/symbolizer/symbolize/symbolize_fixture.h"

namespace profagent {
namespace {

struct Variant {
  friend void PrintTo(const Variant& variant, std::ostream* out) {
    *out << variant.compiler << ' ' << variant.flags;
  }

  const char* name;
  const char* compiler;
  const char* flags;
  const char* needs = nullptr;
};

class SymbolizeVariant : public SymbolizeTest, public ::testing::WithParamInterface<Variant> {};

// Each way to write DWARF down must lead to the same answer: the one that the source gives.
TEST_P(SymbolizeVariant, FindsInlinedCallsFilesAndLines) {
  const Variant& variant = GetParam();
  if (!testing::HasProgram(variant.compiler)) GTEST_SKIP() << variant.compiler << " is not installed";
  if (variant.needs != nullptr && !testing::HasProgram(variant.needs))
    GTEST_SKIP() << variant.needs << " is not installed";
  ASSERT_TRUE(Build(variant.compiler, variant.flags));
  if (std::string_view(variant.name) == "Dwz") {
    // dwz -m needs two files to find something in common.
    ASSERT_TRUE(directory_.Run("cp sample other && dwz -m common.dwz sample other"));
    ASSERT_NE(testing::ReadWhole(binary_).find(".gnu_debugaltlink"), std::string::npos);
  }
  Profile profile = MarkerProfile();
  // Without types clang describes an inlined function by its bare name.
  bool bare = std::string_view(variant.name) == "ClangLineTablesOnly";
  EXPECT_EQ(
      Symbolized(&profile),
      bare ? "inner sample.cc:5 < middle<long> sample.cc:9 < sample::outer(int, char const*) sample.cc:13"
           : kMarkerStack);
  EXPECT_EQ(Report().Text(), binary_ + ": functions, files, lines and inlined calls");

  // Every byte of the program's own functions, as llvm-symbolizer sees it.
  if (testing::FindLlvmSymbolizer().empty()) return;
  // LLVM 14 does not read the .dwo files of GCC; what it then says is the physical function's name alone.
  if (std::string_view(variant.flags).find("-gsplit-dwarf") != std::string_view::npos) return;
  ASSERT_TRUE(directory_.Run("objcopy --strip-symbol=marker sample"));  // which it would take for a function
  std::vector<uint64_t> addresses = testing::RandomCodeAddresses(binary_, 500, 7);
  ASSERT_EQ(addresses.size(), 500u);
  Profile all = testing::ProfileOf(binary_, addresses);
  ASSERT_TRUE(Symbolize(&all, options_, nullptr));
  testing::Comparison comparison =
      testing::Compare(binary_, addresses, all, testing::AskLlvm(binary_, addresses));
  EXPECT_EQ(comparison.unexplained(), 0u) << comparison.Text(3);
}

INSTANTIATE_TEST_SUITE_P(
    Producers, SymbolizeVariant,
    ::testing::Values(
        Variant{"GccO0", "g++", "-g -O0"}, Variant{"GccO2", "g++", "-g -O2"},
        Variant{"GccDwarf2", "g++", "-gdwarf-2 -O2"}, Variant{"GccDwarf3", "g++", "-gdwarf-3 -O2"},
        Variant{"GccDwarf4", "g++", "-gdwarf-4 -O2"}, Variant{"GccDwarf5", "g++", "-gdwarf-5 -O2"},
        Variant{"GccDwarf64", "g++", "-g -gdwarf64 -O2"},
        Variant{"GccNoPie", "g++", "-g -O2 -no-pie -fno-pie"},
        Variant{"GccSplit", "g++", "-g -O2 -gsplit-dwarf"},
        Variant{"GccSplit4", "g++", "-gdwarf-4 -O2 -gsplit-dwarf"}, Variant{"GccLto", "g++", "-g -O2 -flto"},
        Variant{"GccTypeUnits", "g++", "-g -O2 -fdebug-types-section"},
        Variant{"GccCompressed", "g++", "-g -O2 -gz=zlib"},
        Variant{"GccOldCompressed", "g++", "-g -O2 -gz=zlib-gnu"},
        Variant{"GccDiscardedSections", "g++", "-g -O2 -ffunction-sections -Wl,--gc-sections"},
        Variant{"GccLld", "g++", "-g -O2 -fuse-ld=lld", "ld.lld"}, Variant{"Dwz", "g++", "-g -O2", "dwz"},
        Variant{"ClangO0", "clang++", "-g -O0"}, Variant{"ClangO2", "clang++", "-g -O2"},
        Variant{"ClangDwarf4", "clang++", "-gdwarf-4 -O2"},
        Variant{"ClangDwarf5", "clang++", "-gdwarf-5 -O2"},
        Variant{"ClangSplit", "clang++", "-gdwarf-5 -O2 -gsplit-dwarf -Wno-unused-command-line-argument"},
        Variant{"ClangSplit4", "clang++", "-gdwarf-4 -O2 -gsplit-dwarf -Wno-unused-command-line-argument"},
        Variant{"ClangLto", "clang++", "-g -O2 -flto -fuse-ld=lld -Wno-unused-command-line-argument",
                "ld.lld"},
        Variant{"ClangLineTablesOnly", "clang++", "-gline-tables-only -O2"}),
    [](const auto& info) { return std::string(info.param.name); });

// What the linker threw away is described all the same, at address 0: a long function would be seen in the place of others.
TEST_F(SymbolizeTest, DoesNotSeeDiscardedFunctionsWhereOthersAre) {
  const std::string discarded = "void discarded() { asm volatile(\".skip 0x10000\"); }\n";
  directory_.Write("sample.cc", kSampleSource + discarded);
  for (const std::string layout : {"-Wl,-z,separate-code", "-Wl,-z,noseparate-code"}) {
    ASSERT_TRUE(Build("g++", "-g -O2 -ffunction-sections -Wl,--gc-sections " + layout));
    ASSERT_TRUE(testing::SymbolAddresses(binary_, "_Z9discardedv").empty());
    Profile profile = MarkerProfile();
    EXPECT_EQ(Symbolized(&profile), kMarkerStack) << layout;
  }
}

// ---- Debug information that is kept apart ----

class SeparateDebugTest : public SymbolizeTest {
 protected:
  void SetUp() override {
    SymbolizeTest::SetUp();
    ASSERT_TRUE(Build("g++", "-g -O2"));
    profile_ = MarkerProfile();
  }
  // Moves the debug information to DIR/.build-id/xx/yyyy.debug and strips the binary.
  void SplitByBuildId() {
    std::string id = BuildId();
    std::string target = "debug/.build-id/" + id.substr(0, 2);
    ASSERT_TRUE(directory_.Run("mkdir -p " + target + " && objcopy --only-keep-debug sample " + target + "/" +
                               id.substr(2) + ".debug && strip sample"));
  }
  std::string BuildId() { return profile_.string_table(static_cast<int>(profile_.mapping(0).build_id())); }

  Profile profile_;
};

TEST_F(SeparateDebugTest, IsFoundByBuildId) {
  SplitByBuildId();
  Profile without = profile_;
  EXPECT_EQ(Symbolized(&without).find("sample+0x"), 0u);
  EXPECT_NE(Report().Text().find("no debug information"), std::string::npos);
  options_.debug_path = {"/nonexistent", directory_ / "debug"};
  EXPECT_EQ(Symbolized(&profile_), kMarkerStack);
  EXPECT_EQ(Report().debug_file.find(directory_ / "debug/.build-id/"), 0u);
}

// The machine that reads the profile often has the debug package, but not the program.
TEST_F(SeparateDebugTest, IsEnoughWhenTheBinaryIsGone) {
  SplitByBuildId();
  unlink(binary_.c_str());
  options_.debug_path = {directory_ / "debug"};
  EXPECT_EQ(Symbolized(&profile_), kMarkerStack);
}

TEST_F(SeparateDebugTest, IsEnoughForAWholeMappingToo) {
  SplitByBuildId();
  unlink(binary_.c_str());
  options_.debug_path = {directory_ / "debug"};
  // One mapping from the first byte of the file, as some profilers write it.
  auto* mapping = profile_.mutable_mapping(0);
  mapping->set_memory_start(mapping->memory_start() - mapping->file_offset());
  mapping->set_file_offset(0);
  EXPECT_EQ(Symbolized(&profile_), kMarkerStack);
}

// What is installed is stripped, what was built is not: the directory of the build was named in vain.
TEST_F(SeparateDebugTest, IsFoundInAnUnstrippedCopyOfAStrippedBinary) {
  ASSERT_TRUE(directory_.Run("mkdir -p build && cp sample build && strip sample"));
  Profile without = profile_;
  EXPECT_EQ(Symbolized(&without).find("sample+0x"), 0u);
  options_.debug_path = {directory_ / "build"};
  EXPECT_EQ(Symbolized(&profile_), kMarkerStack);
}

TEST_F(SeparateDebugTest, IsFoundByDebugLinkInEachOfItsPlaces) {
  ASSERT_TRUE(
      directory_.Run("objcopy --only-keep-debug sample kept && strip sample && cp kept sample.debug && "
                     "objcopy --add-gnu-debuglink=sample.debug sample && rm sample.debug"));
  options_.debug_path = {directory_ / "root"};
  const std::filesystem::path here = directory_.path();
  for (const std::filesystem::path& place : {here, here / ".debug", here / "root" / here.relative_path()}) {
    std::filesystem::create_directories(place);
    std::filesystem::copy_file(here / "kept", place / "sample.debug");
    Profile profile = profile_;
    EXPECT_EQ(Symbolized(&profile), kMarkerStack) << place;
    std::filesystem::remove(place / "sample.debug");
  }
  EXPECT_NE(Symbolized(&profile_), kMarkerStack);
}

// Without build-ids the checksum in the link is the only proof; a stale debug file gives wrong lines, silently.
TEST_F(SeparateDebugTest, IsCheckedByItsChecksumWhenThereIsNoBuildId) {
  ASSERT_TRUE(Build("g++", "-g -O2 -Wl,--build-id=none"));
  profile_ = MarkerProfile();
  ASSERT_TRUE(
      directory_.Run("objcopy --only-keep-debug sample sample.debug && strip sample && "
                     "objcopy --add-gnu-debuglink=sample.debug sample && cp sample.debug kept"));
  Profile profile = profile_;
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
  ASSERT_TRUE(directory_.Run("echo >> sample.debug"));
  profile = profile_;
  EXPECT_NE(Symbolized(&profile), kMarkerStack);
  EXPECT_NE(Report().problem.find("sample.debug: not used: it is not the file that .gnu_debuglink means"),
            std::string::npos)
      << Report().Text();
}

TEST_F(SeparateDebugTest, IsFetchedFromDebuginfodWhenTheUserAsks) {
  std::string id = BuildId();
  ASSERT_TRUE(directory_.Run("mkdir -p server/buildid/" + id +
                             " && objcopy --only-keep-debug sample server/buildid/" + id +
                             "/debuginfo && strip sample"));
  setenv("DEBUGINFOD_URLS", ("file://" + (directory_ / "server/")).c_str(), 1);
  setenv("DEBUGINFOD_CACHE_PATH", (directory_ / "cache").c_str(), 1);
  options_ = SymbolizeOptions::FromEnvironment();
  unsetenv("DEBUGINFOD_URLS");
  EXPECT_TRUE(options_.use_debuginfod);
  setenv("DEBUGINFOD_URLS", ("file://" + (directory_ / "server/")).c_str(), 1);
  std::string stack = Symbolized(&profile_);
  unsetenv("DEBUGINFOD_URLS");
  unsetenv("DEBUGINFOD_CACHE_PATH");
  if (Report().problem.find("cannot be loaded") != std::string::npos) GTEST_SKIP() << Report().problem;
  EXPECT_EQ(stack, kMarkerStack) << Report().Text();
  EXPECT_FALSE(SymbolizeOptions::FromEnvironment().use_debuginfod);
}

// What two programs have in common may be strings alone, and such a file is none to libdw.
TEST_F(SymbolizeTest, FindsLinesThoughTheAlternateFileIsOfNoUse) {
  if (!testing::HasProgram("dwz")) GTEST_SKIP() << "dwz is not installed";
  ASSERT_TRUE(Build("g++", "-g -O2"));
  ASSERT_TRUE(
      directory_.Run("cp sample other && dwz -m common.dwz sample other && objcopy -R .debug_info -R "
                     ".debug_line common.dwz"));
  Profile profile = MarkerProfile();
  std::string found = Symbolized(&profile);
  EXPECT_NE(found.find("sample.cc:5 < "), std::string::npos) << found;
  EXPECT_NE(found.find("sample.cc:13"), std::string::npos) << found;
  EXPECT_NE(Report().Text().find("common.dwz: "), std::string::npos) << Report().Text();
}

TEST_F(SymbolizeTest, SaysWhichSplitDwarfFileIsMissing) {
  ASSERT_TRUE(Build("g++", "-g -O2 -gsplit-dwarf"));
  ASSERT_TRUE(directory_.Run("rm sample.dwo"));
  Profile profile = MarkerProfile();
  // The line program is in the binary: the place is right, the inlined calls are not known.
  EXPECT_EQ(Symbolized(&profile), "sample::outer(int, char const*) sample.cc:5");
  EXPECT_NE(Report().problem.find(
                "1 of 1 units have their functions in a .dwo file that is not there (sample.dwo)"),
            std::string::npos)
      << Report().Text();
}

// As zstd is to libelf before 0.189. "Compile it with -g" would be no help.
TEST_F(SymbolizeTest, SaysThatDebugInformationIsCompressedInAnUnknownWay) {
  ASSERT_TRUE(Build("g++", "-g -O2 -gz=zlib"));
  Profile profile = MarkerProfile();
  ASSERT_TRUE(testing::SpoilCompression(directory_, "sample"));
  EXPECT_EQ(Symbolized(&profile), "sample::outer(int, char const*) :0");
  EXPECT_NE(Report().Text().find("compressed in a way"), std::string::npos) << Report().Text();
  EXPECT_EQ(Report().Text().find("with -g"), std::string::npos) << Report().Text();
}

TEST_F(SymbolizeTest, SaysThatTheCommonFileOfDwzIsMissing) {
  if (!testing::HasProgram("dwz")) GTEST_SKIP() << "dwz is not installed";
  ASSERT_TRUE(Build("g++", "-g -O2"));
  ASSERT_TRUE(directory_.Run("cp sample other && dwz -m common.dwz sample other && rm common.dwz"));
  Profile profile = MarkerProfile();
  std::string stack = Symbolized(&profile);
  EXPECT_NE(stack.find("sample.cc:13"), std::string::npos) << stack;
  EXPECT_NE(Report().problem.find("common.dwz"), std::string::npos) << Report().Text();
}

// ---- Files that are not the ones that ran ----

// A rebuilt binary has other code at the address: its names would be confidently wrong.
TEST_F(SymbolizeTest, DoesNotUseAFileWithAnotherBuildId) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  ASSERT_TRUE(Build("g++", "-g -O0"));
  EXPECT_EQ(Symbolized(&profile).find("sample+0x"), 0u);
  EXPECT_EQ(Report().found, SymbolsFound::kNothing);
  EXPECT_NE(Report().problem.find(binary_ + ": not used: its build-id is"), std::string::npos)
      << Report().Text();
}

// Of one that is longer than 32 bytes the agent has the beginning.
TEST_F(SymbolizeTest, UsesAFileWithALongBuildId) {
  std::string id;
  for (int i = 0; i < 40; ++i) id += "a" + std::to_string(i % 10);
  ASSERT_TRUE(Build("g++", "-g -O2 -Wl,--build-id=0x" + id));
  Profile profile = MarkerProfile();
  for (std::string& text : *profile.mutable_string_table())
    if (text == id) text.resize(64);
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
}

TEST_F(SymbolizeTest, FindsTheBinaryInADirectoryOfTheUsers) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  ASSERT_TRUE(directory_.Run("mkdir -p elsewhere && mv sample elsewhere/"));
  Profile lost = profile;
  EXPECT_EQ(Symbolized(&lost).find("sample+0x"), 0u);
  EXPECT_NE(Report().Text().find("No such file"), std::string::npos) << Report().Text();
  EXPECT_NE(Report().Text().find("--debug-path"), std::string::npos) << Report().Text();
  options_.debug_path = {directory_ / "elsewhere"};
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
}

TEST_F(SymbolizeTest, KnowsAFileThatWasDeletedWhileItRan) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  int name = static_cast<int>(profile.mapping(0).filename());
  profile.set_string_table(name, binary_ + " (deleted)");
  // The same file is back (a package was installed again): its build-id proves it.
  Profile again = profile;
  EXPECT_EQ(Symbolized(&again), kMarkerStack);
  // Without a build-id nothing does.
  profile.mutable_mapping(0)->set_build_id(0);
  EXPECT_EQ(Symbolized(&profile).find("sample (deleted)+0x"), 0u) << Symbolized(&profile);
  EXPECT_NE(Report().problem.find("deleted while it ran"), std::string::npos) << Report().Text();
}

TEST_F(SymbolizeTest, BelievesThePathWhenTheProfileHasNoBuildId) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  profile.mutable_mapping(0)->set_build_id(0);
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
}

TEST_F(SymbolizeTest, SurvivesFilesThatAreNoBinaries) {
  directory_.Write("sample", "not a binary");
  binary_ = directory_ / "sample";
  std::vector<uint64_t> none;
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  directory_.Write("sample", "not a binary");
  EXPECT_EQ(Symbolized(&profile).find("sample+0x"), 0u);
  EXPECT_NE(Report().problem.find("not an ELF file"), std::string::npos) << Report().Text();
  unlink(binary_.c_str());
  ASSERT_TRUE(directory_.Run("mkdir sample"));
  profile = testing::ProfileOf(binary_, none);
  EXPECT_TRUE(Symbolize(&profile, options_, nullptr));
}

// ---- What the profile has already ----

// Symbolizing again on a machine without the debug files must not undo what was known.
TEST_F(SymbolizeTest, DoesNotReplaceLinesByABareName) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  Profile profile = MarkerProfile();
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
  ASSERT_TRUE(directory_.Run("strip -g sample"));
  EXPECT_EQ(Symbolized(&profile), kMarkerStack);
}

TEST_F(SymbolizeTest, GivesTheSameBytesTwice) {
  ASSERT_TRUE(Build("g++", "-g -O2"));
  std::vector<uint64_t> addresses = testing::RandomCodeAddresses(binary_, 200, 3);
  Profile one = testing::ProfileOf(binary_, addresses);
  ASSERT_TRUE(Symbolize(&one, options_, nullptr));
  Profile two = one;
  ASSERT_TRUE(Symbolize(&two, options_, nullptr));
  EXPECT_EQ(one.SerializeAsString(), two.SerializeAsString());
}

TEST_F(SymbolizeTest, LeavesFramesWithoutAMappingAlone) {
  Profile profile;
  for (const char* text : {"", "[truncated]"}) profile.add_string_table(text);
  profile.add_location()->set_id(1);
  profile.add_function()->set_id(7);
  profile.mutable_function(0)->set_name(1);
  profile.mutable_location(0)->add_line()->set_function_id(7);
  EXPECT_TRUE(Symbolize(&profile, options_, &report_));
  EXPECT_TRUE(report_.modules.empty());
  EXPECT_EQ(NameOf(profile, 0), "[truncated]");
}

TEST_F(SymbolizeTest, DemanglesTheNamesOfLocks) {
  Profile profile;
  profile.add_string_table("");
  auto text = [&](const std::string& value) {
    profile.add_string_table(value);
    return profile.string_table_size() - 1;
  };
  auto add = [&](const std::string& key, const std::string& value) {
    auto* label = profile.add_sample()->add_label();
    label->set_key(text(key));
    label->set_str(text(value));
  };
  add("lock", "_ZL9global_mu");
  add("lock", "_ZN3app5tableE+0x28");
  add("lock", "heap 0x5581");
  add("thread", "_ZL9global_mu");
  auto values = [&](bool demangle) {
    Profile copy = profile;
    SymbolizeOptions options;
    options.demangle = demangle;
    EXPECT_TRUE(Symbolize(&copy, options, nullptr));
    std::string all;
    for (const auto& sample : copy.sample())
      all += copy.string_table(static_cast<int>(sample.label(0).str())) + "; ";
    return all;
  };
  EXPECT_EQ(values(true), "global_mu; app::table+0x28; heap 0x5581; _ZL9global_mu; ");
  EXPECT_EQ(values(false), "_ZL9global_mu; _ZN3app5tableE+0x28; heap 0x5581; _ZL9global_mu; ");
}

// The functions of a heap profile's first sample after symbolizing, one location to each vector, innermost first.
std::string HeapStack(const std::vector<std::vector<std::string>>& locations, const std::string& type) {
  Profile profile;
  auto text = [&](const std::string& value) {
    profile.add_string_table(value);
    return profile.string_table_size() - 1;
  };
  text("");
  profile.add_sample_type()->set_type(text(type));
  auto* sample = profile.add_sample();
  sample->add_value(1);
  for (const auto& names : locations) {
    auto* location = profile.add_location();
    location->set_id(static_cast<uint64_t>(profile.location_size()));
    sample->add_location_id(location->id());
    for (const std::string& name : names) {
      auto* function = profile.add_function();
      function->set_id(static_cast<uint64_t>(profile.function_size()));
      function->set_name(text(name));
      location->add_line()->set_function_id(function->id());
    }
  }
  EXPECT_TRUE(Symbolize(&profile, SymbolizeOptions{}, nullptr));
  std::string stack;
  for (uint64_t id : profile.sample(0).location_id()) {
    const int location = static_cast<int>(id) - 1;
    for (int line = 0; line < profile.location(location).line_size(); ++line)
      stack += (stack.empty() ? "" : " < ") + NameOf(profile, location, line);
  }
  return stack;
}

// With debug information the largest leak of every Rust program was alloc::alloc::alloc: rustc 1.95 without and with LTO, with a
// global allocator of the program's, and without optimization; and 1.63's names.
TEST_F(SymbolizeTest, HidesWhatRustHasBetweenMallocAndCollections) {
  const std::string as_global = "<alloc::alloc::Global as core::alloc::Allocator>::";
  const std::string as_system = "<std::alloc::System as core::alloc::global::GlobalAlloc>::";
  for (const std::vector<std::string>& allocator : std::vector<std::vector<std::string>>{
           {"malloc"},
           {"alloc::alloc::alloc", "<alloc::alloc::Global>::alloc_impl", as_global + "allocate"},
           {"alloc::alloc::realloc", "alloc::alloc::Global::grow_impl", as_global + "grow"},
           {as_system + "alloc_zeroed", "__rustc::__rdl_alloc_zeroed", "alloc::alloc::alloc_zeroed"},
           {"std::sys::alloc::unix::aligned_malloc",
            "std::sys::alloc::unix::<impl core::alloc::global::GlobalAlloc for std::alloc::System>::alloc",
            "std::alloc::__default_lib_allocator::__rdl_alloc", "alloc::alloc::exchange_malloc"},
           {"_ZN5alloc5alloc5alloc17h0123456789abcdefE"}}) {
    std::vector<std::string> inlined = allocator;
    inlined.push_back("alloc::raw_vec::RawVecInner<A>::finish_grow");
    EXPECT_EQ(HeapStack({inlined, {"app::f"}}, "alloc_space"),
              "alloc::raw_vec::RawVecInner<A>::finish_grow < app::f");
    EXPECT_EQ(HeapStack({inlined, {"app::f"}}, "delay"), HeapStack({inlined}, "delay") + " < app::f");
    EXPECT_EQ(HeapStack({allocator, {allocator[0], "app::f"}, {"main"}}, "peak_space"), "app::f < main");
    EXPECT_NE(HeapStack({allocator}, "alloc_space"), "") << "a whole stack";
  }
  EXPECT_EQ(HeapStack({{as_system + "alloc", "<app::Counter as core::alloc::global::GlobalAlloc>::alloc",
                        "__rustc::__rust_alloc", "app::f"}},
                      "alloc_space"),
            "<app::Counter as core::alloc::global::GlobalAlloc>::alloc < __rustc::__rust_alloc < app::f")
      << "the program's own";
  for (const char* shown :
       {"alloc::alloc::alloc(int)", "alloc::boxed::Box<T>::new", "app::__rust_alloc::f", "std::sys::fs::read",
        "std::sys::local::Key<alloc::alloc::Global>::get", "hashbrown::alloc::inner::do_alloc"})
    EXPECT_EQ(HeapStack({{shown, "main"}}, "alloc_space"), std::string(shown) + " < main");
}

TEST_F(SymbolizeTest, RefusesAProfileThatContradictsItself) {
  Profile profile;
  EXPECT_FALSE(Symbolize(&profile, options_, nullptr)) << "no string table";
  profile.add_string_table("");
  profile.add_location()->set_mapping_id(3);
  Status status = Symbolize(&profile, options_, nullptr);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text.view().find("mapping 3"), std::string_view::npos);
}

// A fuzzer in small: whatever the file says, we end, with our memory intact. Run with sanitizers.
TEST_F(SymbolizeTest, SurvivesDamagedDebugInformation) {
  for (const char* flags : {"-gdwarf-5 -O2", "-gdwarf-4 -O2"}) {
    ASSERT_TRUE(Build("g++", flags));
    std::vector<uint64_t> addresses = testing::RandomCodeAddresses(binary_, 100, 5);
    Profile profile = testing::ProfileOf(binary_, addresses);
    const std::string whole = testing::ReadWhole(binary_);
    size_t first = 0, last = 0;
    {
      auto file = ElfFile::Open(binary_);
      ASSERT_TRUE(file);
      for (const char* name :
           {".debug_info", ".debug_abbrev", ".debug_line", ".debug_rnglists", ".debug_ranges"}) {
        std::string_view section = (*file)->Section(name);
        if (section.empty()) continue;
        size_t at = whole.find(section);
        first = first == 0 ? at : std::min(first, at);
        last = std::max(last, at + section.size());
      }
    }
    ASSERT_LT(first, last);
    std::mt19937 random(11);
    for (int round = 0; round < 200; ++round) {
      std::string bytes = whole;
      for (int i = 0; i < 1 + round % 20; ++i)
        bytes[first + random() % (last - first)] = static_cast<char>(random());
      directory_.Write("sample", bytes);
      Profile copy = profile;
      EXPECT_TRUE(Symbolize(&copy, options_, nullptr));
      for (const auto& location : copy.location()) ASSERT_GT(location.line_size(), 0);
    }
  }
}

// DIEs whose siblings are those of their parents: read once more at each of forty levels, they take for ever.
TEST_F(SymbolizeTest, ReadsSiblingsThatLeadOutOfTheirParentsOnce) {
  constexpr int kLevels = 40;
  for (const std::string tag : {"0x39", "0x0b"}) {  // a namespace; a block, inside a function
    const bool in_function = tag == "0x0b";
    const std::string attributes = ", 0x01,0x13, 0x11,1, 0x12,1, 0,0\n";
    const std::string range = ".quad marker, end\n";
    std::string source =
        ".text\n.globl marker\nmarker: .skip 64\nend:\n.section .note.GNU-stack,\"\",@progbits\n"
        ".section .debug_abbrev\n"
        ".byte 1,0x11,1, 0x11,1, 0x12,1, 0,0\n"
        ".byte 2,0x2e,1, 0x11,1, 0x12,1, 0,0\n"
        ".byte 3," +
        tag + ",1" + attributes + ".byte 4," + tag + ",0" + attributes + ".byte 0\n" +
        ".section .debug_info\n"
        "unit: .long unit_end-unit-4\n.short 4\n.long 0\n.byte 8, 1\n" +
        range;
    if (in_function) source += ".byte 2\n" + range;
    for (int i = 0; i < kLevels; ++i) {
      const std::string next = "level" + std::to_string(i + 1) + "-unit\n";
      source += "level" + std::to_string(i) + ": .byte 3\n.long " + next + range;
      source += ".byte 4\n.long " + next + range;
    }
    source += "level" + std::to_string(kLevels) + ": .byte 0,0,0\nunit_end:\n";
    directory_.Write("code.s", source);
    ASSERT_TRUE(directory_.Run("gcc -c code.s -o code.o && ld -shared code.o -o code.so"));
    binary_ = directory_ / "code.so";
    Profile profile = MarkerProfile();
    EXPECT_EQ(Symbolized(&profile), "marker :0") << tag;
  }
}

// A thousand namespaces that share one name of a megabyte would take 500 GB.
TEST_F(SymbolizeTest, LeavesScopesOutThatAreTooLong) {
  constexpr int kLevels = 100;
  constexpr size_t kLongName = 64 << 10;
  std::string source =
      ".text\n.globl marker\nmarker: .skip 64\nend:\n.section .note.GNU-stack,\"\",@progbits\n"
      ".section .debug_str,\"MS\",@progbits,1\nlong_name: .fill " +
      std::to_string(kLongName) +
      ",1,'n'\n.byte 0\n"
      ".section .debug_abbrev\n"
      ".byte 1,0x11,1, 0x11,1, 0x12,1, 0,0\n"
      ".byte 2,0x2e,0, 0x03,0x08, 0x11,1, 0x12,1, 0,0\n"
      ".byte 3,0x39,1, 0x03,0x0e, 0,0\n.byte 0\n"
      ".section .debug_info\n"
      "unit: .long unit_end-unit-4\n.short 4\n.long 0\n.byte 8, 1\n.quad marker, end\n";
  for (int i = 0; i < kLevels; ++i) source += ".byte 3\n.long long_name\n";
  source += ".byte 2\n.asciz \"marker\"\n.quad marker, end\n.fill " + std::to_string(kLevels + 1) +
            ",1,0\nunit_end:\n";
  directory_.Write("code.s", source);
  ASSERT_TRUE(directory_.Run("gcc -c code.s -o code.o && ld -shared code.o -o code.so"));
  binary_ = directory_ / "code.so";
  Profile profile = MarkerProfile();
  EXPECT_EQ(Symbolized(&profile).substr(0, 100), "marker :0");
}

}  // namespace
}  // namespace profagent
