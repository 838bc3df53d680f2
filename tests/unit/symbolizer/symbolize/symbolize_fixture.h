// A compiled sample, a profile of one address in it, and what symbolizing makes of that.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "symbolizer/symbolize/symbolize.h"
#include "tests/unit/symbolizer/symbolize/llvm_oracle.h"
#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent {

using perftools::profiles::Profile;
using testing::kSampleMain;
using testing::kSampleSource;

inline std::string NameOf(const Profile& profile, int location, int line = 0) {
  const auto& function =
      profile.function(static_cast<int>(profile.location(location).line(line).function_id()) - 1);
  return profile.string_table(static_cast<int>(function.name()));
}

inline std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "inner sample.cc:5 < middle..." with names as a person reads them.
inline std::string Stack(const Profile& profile, int location) {
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

inline constexpr char kMarkerStack[] =
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

  // What the agent writes: one line, a name of the symbol table.
  static void AddLine(Profile* profile, const std::string& name, int64_t line) {
    auto* function = profile->add_function();
    function->set_id(41);
    profile->add_string_table(name);
    function->set_name(profile->string_table_size() - 1);
    function->set_system_name(profile->string_table_size() - 1);
    auto* added = profile->mutable_location(0)->add_line();
    added->set_function_id(41);
    added->set_line(line);
  }

  std::string Symbolized(Profile* profile) {
    report_ = {};
    Status status = Symbolize(profile, options_, &report_);
    EXPECT_TRUE(status) << status.error().text.view();
    return Stack(*profile, 0);
  }

  const ModuleReport& Report() {
    EXPECT_EQ(report_.modules.size(), 1u);
    return report_.modules.empty() ? no_report_ : report_.modules[0];
  }

  testing::TemporaryDirectory directory_;
  std::string binary_;
  SymbolizeOptions options_;
  SymbolizeReport report_;
  const ModuleReport no_report_{};
};

}  // namespace profagent
