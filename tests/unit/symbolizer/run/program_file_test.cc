#include "symbolizer/run/program_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
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
  fs::create_directory(directory_ / "tool");
  EXPECT_EQ(FindProgram("tool", directory_.c_str()).error().code, ENOENT) << "a directory in the path";
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

}  // namespace
}  // namespace profagent
