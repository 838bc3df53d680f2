#include "symbolizer/symbolize/symbolize.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include <algorithm>
#include <filesystem>

#include "symbolizer/symbolize/elf_file.h"
#include "tests/unit/symbolizer/symbolize/llvm_oracle.h"
#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent {
namespace {

using perftools::profiles::Profile;
using testing::kSampleMain;
using testing::kSampleSource;

std::string NameOf(const Profile& profile, int location, int line = 0) {
  const auto& function =
      profile.function(static_cast<int>(profile.location(location).line(line).function_id()) - 1);
  return profile.string_table(static_cast<int>(function.name()));
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "inner sample.cc:5 < middle..." with names as a person reads them.
std::string Stack(const Profile& profile, int location) {
  std::string text;
  for (int i = 0; i < profile.location(location).line_size(); ++i) {
    const auto& line = profile.location(location).line(i);
    const auto& function = profile.function(static_cast<int>(line.function_id()) - 1);
    if (i > 0) text += " < ";
    text += NameOf(profile, location, i) + " " +
            BaseName(profile.string_table(static_cast<int>(function.filename()))) + ":" +
            std::to_string(line.line());
  }
  return text;
}

constexpr char kMarkerStack[] =
    "sample::inner(int) sample.cc:5 < void sample::middle<long>(long) sample.cc:9 < "
    "sample::outer(int, char const*) sample.cc:13";

class SymbolizeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_.Write("sample.cc", kSampleSource);
    directory_.Write("main.cc", kSampleMain);
  }

  // Compiles both files with the flags and links them as `sample`.
  bool Build(const std::string& compiler, const std::string& flags) {
    binary_ = directory_ / "sample";
    return directory_.Run(compiler + " " + flags + " -c sample.cc && " + compiler + " " + flags +
                          " -c main.cc && " + compiler + " " + flags + " sample.o main.o -o sample");
  }

  uint64_t Address(std::string_view symbol) {
    std::vector<uint64_t> addresses = testing::SymbolAddresses(binary_, symbol);
    EXPECT_EQ(addresses.size(), 1u) << symbol;
    return addresses.empty() ? 0 : addresses[0];
  }

  // The profile with one location at the marker, made while the binary still has its symbols.
  Profile MarkerProfile() {
    std::vector<uint64_t> addresses = {Address("marker")};
    return testing::ProfileOf(binary_, addresses);
  }

  std::string Symbolized(Profile* profile) {
    report_ = {};
    Status status = Symbolize(profile, options_, &report_);
    EXPECT_TRUE(status) << status.error().text.view();
    return Stack(*profile, 0);
  }

  const ModuleReport& Report() {
    static const ModuleReport kNone;
    EXPECT_EQ(report_.modules.size(), 1u);
    return report_.modules.empty() ? kNone : report_.modules[0];
  }

  testing::TemporaryDirectory directory_;
  std::string binary_;
  SymbolizeOptions options_;
  SymbolizeReport report_;
};

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
  testing::Comparison comparison = testing::Compare(addresses, all, testing::AskLlvm(binary_, addresses));
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

}  // namespace
}  // namespace profagent
