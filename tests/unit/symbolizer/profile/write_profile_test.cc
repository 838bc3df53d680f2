#include "symbolizer/profile/write_profile.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "symbolizer/profile/gunzip.h"
#include "symbolizer/profile/read_profile.h"
#include "tests/golden/golden_profiles.h"

namespace profagent {
namespace {

class WriteProfileTest : public testing::Test {
 protected:
  WriteProfileTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "profagent_write.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~WriteProfileTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const char* name) const { return directory_ + "/" + name; }
  size_t FilesInDirectory() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }

  Profile profile_ = GoldenProfiles().front().profile;
  std::string directory_;
};

TEST_F(WriteProfileTest, WhatIsWrittenReadsBack) {
  ASSERT_TRUE(WriteProfile(profile_, Path("p")));
  const Result<Profile> read = ReadProfile(Path("p"));
  ASSERT_TRUE(read) << read.error().text.c_str();
  EXPECT_EQ(read->SerializeAsString(), profile_.SerializeAsString());
}

// A profile names files, threads and command lines: nobody else's business.
TEST_F(WriteProfileTest, OnlyTheOwnerMayReadIt) {
  ASSERT_TRUE(WriteProfile(profile_, Path("p")));
  struct stat status {};
  ASSERT_EQ(stat(Path("p").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(WriteProfileTest, EqualProfilesGiveEqualBytes) {
  EXPECT_EQ(EncodeProfile(profile_), EncodeProfile(profile_));
}

// Debug information has names of files in Latin-1; readers of proto3 refuse a whole profile for one.
TEST_F(WriteProfileTest, WritesValidUtf8OfTextsThatAreNot) {
  const int last = profile_.string_table_size();
  profile_.add_string_table("caf\xe9.c");
  profile_.add_string_table(
      "pr\xc3\xbc"
      "fung.c");
  ASSERT_TRUE(WriteProfile(profile_, Path("p")));
  const Result<Profile> read = ReadProfile(Path("p"));
  ASSERT_TRUE(read) << read.error().text.c_str();
  EXPECT_EQ(read->string_table(last), "caf?.c");
  EXPECT_EQ(read->string_table(last + 1), profile_.string_table(last + 1));
}

// Somebody who reads while we write must see the old file or the new one, and a failure must leave the old one.
TEST_F(WriteProfileTest, ReplacesTheOldFileWholeAndLeavesNothingElseBehind) {
  std::ofstream(Path("p")) << "old";
  const int old = open(Path("p").c_str(), O_RDONLY);
  ASSERT_TRUE(WriteProfile(profile_, Path("p")));
  char text[8] = {};
  EXPECT_EQ(read(old, text, sizeof text), 3) << "the old file itself must not be touched";
  close(old);
  EXPECT_TRUE(ReadProfile(Path("p")));
  EXPECT_EQ(FilesInDirectory(), 1u);
}

TEST_F(WriteProfileTest, ASymbolicLinkStaysOne) {
  std::ofstream(Path("real")) << "old";
  std::filesystem::create_symlink("real", Path("link"));
  ASSERT_TRUE(WriteProfile(profile_, Path("link")));
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link")));
  EXPECT_TRUE(ReadProfile(Path("real")));
}

// `-o /dev/null` must not replace the device by a file.
TEST_F(WriteProfileTest, WritesIntoWhatIsNoRegularFile) {
  ASSERT_TRUE(WriteProfile(profile_, "/dev/null"));
  struct stat status {};
  ASSERT_EQ(stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST_F(WriteProfileTest, SaysWhatCannotBeWritten) {
  const Status no_directory = WriteProfile(profile_, Path("none/p"));
  ASSERT_FALSE(no_directory);
  EXPECT_EQ(no_directory.error().text.view(), Path("none/p") + ": cannot write: No such file or directory");
  const Status directory = WriteProfile(profile_, directory_);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().text.view(), directory_ + ": cannot write: Is a directory");
  EXPECT_EQ(FilesInDirectory(), 0u);
}

TEST_F(WriteProfileTest, AFullDiskIsAnErrorAndLeavesNothing) {
  const Status full = WriteProfile(profile_, "/dev/full");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ENOSPC);
}

// zlib counts in 32 bits and works in chunks; neither may show.
TEST(Gunzip, UndoesGzipAcrossChunks) {
  std::string bytes(3 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 7);
  const std::string packed = Gzip(bytes);
  const Result<std::string> plain = Gunzip(packed, bytes.size());
  ASSERT_TRUE(plain) << plain.error().text.c_str();
  EXPECT_EQ(*plain, bytes);
  EXPECT_FALSE(Gunzip(packed, bytes.size() - 1));
  EXPECT_EQ(*Gunzip(Gzip(""), 0), "");
}

// bgzip writes members of 64 KiB. Each of them cleared as much memory as was unpacked so far: this took minutes, or hours.
TEST(Gunzip, TakesNoLongerForManyMembers) {
  const std::string member = Gzip(std::string(200, 'x'));
  constexpr size_t kMembers = 200'000;
  std::string packed;
  for (size_t i = 0; i < kMembers; ++i) packed += member;
  const Result<std::string> plain = Gunzip(packed, kMembers * 200);
  ASSERT_TRUE(plain);
  EXPECT_EQ(*plain, std::string(kMembers * 200, 'x'));
}

}  // namespace
}  // namespace profagent
