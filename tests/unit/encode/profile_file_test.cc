#include "agent/encode/profile_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/unit/in_child.h"

namespace profagent {
namespace {

using testing::InChild;

Status WriteText(const std::string& path, std::string_view text) {
  return WriteProfileFile(path.c_str(), [&](ByteSink sink) -> Status {
    if (!sink(std::as_bytes(std::span(text)))) return Error::Of("refused");
    return Done{};
  });
}

std::string Words(const Status& status) { return std::string(status.error().text.view()); }

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class ProfileFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/profile_file_test.XXXXXX";
    directory_ = mkdtemp(directory);
    path_ = directory_ + "/cpu.prof";
  }
  void TearDown() override {
    chmod(directory_.c_str(), 0700);
    std::system(("rm -rf '" + directory_ + "'").c_str());
  }
  // Nothing but the names expected may be left behind.
  std::string Listing() {
    std::string names;
    DIR* directory = opendir(directory_.c_str());
    while (dirent* entry = readdir(directory)) {
      if (entry->d_name[0] != '.' || entry->d_name[1] == 'p') names += std::string(entry->d_name) + " ";
    }
    closedir(directory);
    return names;
  }

  std::string directory_, path_;
};

TEST_F(ProfileFileTest, AppearsWholeAndPrivate) {
  umask(0);
  ASSERT_TRUE(WriteText(path_, "profile"));
  EXPECT_EQ(ReadAll(path_), "profile");
  struct stat about;
  ASSERT_EQ(stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_EQ(Listing(), "cpu.prof ");
}

// A umask of 0777 would leave a file that its owner cannot read.
TEST_F(ProfileFileTest, IsItsOwnersWhateverTheUmask) {
  mode_t before = umask(0777);
  Status status = WriteText(path_, "profile");
  umask(before);
  ASSERT_TRUE(status) << Words(status);
  struct stat about = {};
  ASSERT_EQ(stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600u);
}

// A daemon has closed its standard streams, and a thread of it prints all the same: not into the profile.
TEST_F(ProfileFileTest, IsNeverAStandardStream) {
  for (int closed = 1; closed < 8; ++closed) {
    int result = InChild([&] {
      for (int fd = 0; fd < 3; ++fd) {
        if ((closed >> fd & 1) != 0) close(fd);
      }
      bool is_free = true;
      Status status = WriteProfileFile(path_.c_str(), [&](ByteSink sink) -> Status {
        for (int fd = 0; fd < 3; ++fd) {
          if ((closed >> fd & 1) != 0) is_free &= fcntl(fd, F_GETFD) < 0;
        }
        sink(std::as_bytes(std::span(std::string_view("profile"))));
        return Done{};
      });
      return status && is_free ? 0 : 1;
    });
    EXPECT_EQ(result, 0) << "closed: " << closed;
  }
}

TEST_F(ProfileFileTest, ReplacesAnOlderFile) {
  ASSERT_TRUE(WriteText(path_, "a longer older profile"));
  ASSERT_TRUE(WriteText(path_, "new"));
  EXPECT_EQ(ReadAll(path_), "new");
}

// Half a profile is worse than the old one.
TEST_F(ProfileFileTest, LeavesTheOlderFileAndNoTraceWhenTheProfileFails) {
  ASSERT_TRUE(WriteText(path_, "old"));
  Status status = WriteProfileFile(path_.c_str(), [](ByteSink sink) -> Status {
    std::byte half[100]{};
    sink(half);
    return Error::Of("no memory to encode a profile");
  });
  EXPECT_EQ(Words(status), "cannot write " + path_ + ": no memory to encode a profile");
  EXPECT_EQ(ReadAll(path_), "old");
  EXPECT_EQ(Listing(), "cpu.prof ");
}

TEST_F(ProfileFileTest, NamesPathAndReason) {
  EXPECT_EQ(Words(WriteText("/nonexistent/dir/x.prof", "x")),
            "cannot write /nonexistent/dir/x.prof: No such file or directory");
  EXPECT_EQ(Words(WriteText(directory_, "x")), "cannot write " + directory_ + ": Is a directory");
  EXPECT_EQ(Words(WriteText("", "x")), "cannot write a file without a name: No such file or directory");
  ASSERT_TRUE(WriteText(path_, "x"));
  EXPECT_EQ(Words(WriteText(path_ + "/x", "x")), "cannot write " + path_ + "/x: Not a directory");
  std::string longest = directory_ + "/" + std::string(300, 'n');
  std::string words = Words(WriteText(longest, "x"));
  EXPECT_TRUE(words.ends_with("nnn: File name too long")) << words;
  EXPECT_TRUE(words.starts_with("cannot write ...nnn")) << words;
  EXPECT_TRUE(Words(WriteText(std::string(5000, 'p'), "x")).ends_with("File name too long"));
}

TEST_F(ProfileFileTest, SaysThatADiskIsFull) {
  Status status = WriteText("/dev/full", "x");
  EXPECT_EQ(Words(status), "cannot write /dev/full: No space left on device");
  EXPECT_EQ(status.error().code, ENOSPC);
}

TEST_F(ProfileFileTest, WritesToADevice) { EXPECT_TRUE(WriteText("/dev/null", "x")); }

// `CPUPROFILE=/dev/stdout app | pprof -top -`: a rename would replace /dev/stdout itself.
TEST_F(ProfileFileTest, WritesToADescriptorThatIsOpen) {
  for (std::string name : {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    EXPECT_EQ(InChild([&] {
                int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
                dup2(fd, 1);
                if (write(1, "output ", 7) != 7 || !WriteText(name, "profile ")) return 1;
                return write(1, "more", 4) == 4 ? 0 : 2;
              }),
              0);
    EXPECT_EQ(ReadAll(path_), "output profile more");
  }
  struct stat about;
  ASSERT_EQ(lstat("/dev/stdout", &about), 0);
  EXPECT_TRUE(S_ISLNK(about.st_mode));
  EXPECT_EQ(InChild([&] {
              close(1);
              return Words(WriteText("/dev/stdout", "x")) == "cannot write /dev/stdout: Bad file descriptor"
                         ? 0
                         : 1;
            }),
            0);
}

TEST_F(ProfileFileTest, FollowsALinkAndLeavesItThere) {
  ASSERT_EQ(symlink("real.prof", path_.c_str()), 0);
  ASSERT_TRUE(WriteText(path_, "through a link to nothing yet"));
  ASSERT_TRUE(WriteText(path_, "again"));
  EXPECT_EQ(ReadAll(directory_ + "/real.prof"), "again");
  struct stat about;
  ASSERT_EQ(lstat(path_.c_str(), &about), 0);
  EXPECT_TRUE(S_ISLNK(about.st_mode));

  std::string loop = directory_ + "/loop";
  ASSERT_EQ(symlink("loop", loop.c_str()), 0);
  EXPECT_EQ(Words(WriteText(loop, "x")), "cannot write " + loop + ": Too many levels of symbolic links");
}

// Before a sandbox that is refused, a profile is written and removed again. By root that was /dev/null.
TEST_F(ProfileFileTest, CanBeRemovedAgainWhereItIsAFile) {
  auto written = [](const std::string& path) {
    PathText text;
    text.Add(path);
    return std::string(WrittenFile(text).view());
  };
  EXPECT_EQ(written(path_), "") << "not there";
  ASSERT_EQ(symlink("real.prof", path_.c_str()), 0);
  ASSERT_TRUE(WriteText(path_, "x"));
  EXPECT_EQ(written(path_), directory_ + "/real.prof");
  EXPECT_EQ(written(directory_ + "/real.prof"), directory_ + "/real.prof");
  std::string device = directory_ + "/device";
  ASSERT_EQ(symlink("/dev/null", device.c_str()), 0);
  for (const std::string& other : {std::string("/dev/null"), std::string("/dev/stdout"), device, directory_})
    EXPECT_EQ(written(other), "") << other;
}

TEST_F(ProfileFileTest, FeedsTheReaderOfAFifo) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  std::string text(300'000, 'x');  // more than the pipe holds
  std::string got;
  int reader = open(path_.c_str(), O_RDONLY | O_NONBLOCK);
  std::thread thread([&] {
    fcntl(reader, F_SETFL, 0);
    char part[5000];
    for (ssize_t size; got.size() < text.size() && (size = read(reader, part, sizeof part)) >= 0;) {
      got.append(part, static_cast<size_t>(size));
      usleep(100);
    }
  });
  EXPECT_TRUE(WriteText(path_, text));
  thread.join();
  close(reader);
  EXPECT_EQ(got, text);
}

// An open would wait for ever, and the program with it.
TEST_F(ProfileFileTest, DoesNotWaitForAFifoThatNobodyReads) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(Words(WriteText(path_, "x")), "cannot write " + path_ + ": nobody reads from it");
}

// The program has not set SIGPIPE to be ignored, and must not die for our sake.
TEST_F(ProfileFileTest, SurvivesAReaderThatLeaves) {
  EXPECT_EQ(InChild([] {
              signal(SIGPIPE, SIG_DFL);
              int ends[2];
              if (pipe(ends) != 0) return 1;
              close(ends[0]);
              std::string name = "/dev/fd/" + std::to_string(ends[1]);
              if (!Words(WriteText(name, "x")).ends_with(": Broken pipe")) return 2;
              sigset_t pending;
              sigpending(&pending);
              if (sigismember(&pending, SIGPIPE)) return 3;
              sigset_t mask;
              sigprocmask(SIG_SETMASK, nullptr, &mask);
              return sigismember(&mask, SIGPIPE) ? 4 : 0;
            }),
            0);
}

// A SIGPIPE that was waiting before belongs to the application.
TEST_F(ProfileFileTest, LeavesASignalThatWaitedAlready) {
  EXPECT_EQ(InChild([] {
              sigset_t set, pending;
              sigemptyset(&set);
              sigaddset(&set, SIGPIPE);
              sigprocmask(SIG_BLOCK, &set, nullptr);
              raise(SIGPIPE);
              if (!WriteText("/dev/null", "x")) return 1;
              sigpending(&pending);
              return sigismember(&pending, SIGPIPE) ? 0 : 2;
            }),
            0);
}

TEST_F(ProfileFileTest, SurvivesTheFileSizeLimit) {
  EXPECT_EQ(InChild([&] {
              struct rlimit limit = {1000, 1000};
              setrlimit(RLIMIT_FSIZE, &limit);
              Status status = WriteText(path_, std::string(5000, 'x'));
              return !status && status.error().code == EFBIG ? 0 : 1;
            }),
            0);
  EXPECT_EQ(Listing(), "");
}

// A directory that takes no new file, with an old one in it that may be written.
TEST_F(ProfileFileTest, WritesOverAFileWhereItsDirectoryIsClosed) {
  ASSERT_TRUE(WriteText(path_, "a longer older profile"));
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  ASSERT_EQ(chmod(directory_.c_str(), 0555), 0);
  EXPECT_EQ(InChild([&] {
              if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) return 1;
              if (!WriteText(path_, "new")) return 2;
              return WriteText(directory_ + "/other", "new") ? 3 : 0;
            }),
            0);
  EXPECT_EQ(ReadAll(path_), "new");
}

TEST_F(ProfileFileTest, LeavesErrnoAlone) {
  errno = 4242;
  (void)WriteText("/nonexistent/x", "x");
  EXPECT_EQ(errno, 4242);
}

}  // namespace
}  // namespace profagent
