#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "agent/ledger/ledger.h"
#include "agent/ledger/ledger_view.h"
#include "tests/unit/in_child.h"
#include "tests/unit/ledger/ledger_promises.h"

namespace profagent {
namespace {

using testing::ExpectPlaceToBeKept;
using testing::ExpectToKeepToALaterLimit;
using testing::InChild;

// From now on the calling process gets `error` for these system calls, as under a container's filter.
void Forbid(std::vector<int> calls, uint32_t error) {
  std::vector<struct sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  for (int call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  struct sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    _exit(99);
  }
}

class LedgerFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/dev/shm/ledger_test.XXXXXX";
    directory_ = mkdtemp(directory);
    path_ = directory_ + "/ledger";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }
  std::string directory_, path_;
};

TEST_F(LedgerFileTest, KeepsToALimitThatComesLater) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  ExpectToKeepToALaterLimit(ledger);
}

// A build starts ten thousand processes, most of which have no sample: half a megabyte of memory for each is five gigabytes.
TEST_F(LedgerFileTest, GivesUnusedSpaceBackAtTheEnd) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  std::vector<Frame> frames = {Frame{1}, Frame{2}};
  StackId stack = ledger.InternStack(frames, WalkEnd::kOutermost);
  ledger.AddCpuTicks(stack, kNoText, 3);
  ledger.ReleaseUnused();
  struct stat file = {};
  ASSERT_EQ(stat(path_.c_str(), &file), 0);
  EXPECT_LE(file.st_blocks * 512, 32 * 1024);
  EXPECT_NE(ledger.InternText("a thread that is still at work"), kNoText);
  // The exec failed, the process goes on.
  ASSERT_TRUE(ledger.ReserveAgain());
  EXPECT_EQ(ledger.InternStack(frames, WalkEnd::kOutermost), stack);
  frames[0] = Frame{9};
  EXPECT_NE(ledger.InternStack(frames, WalkEnd::kOutermost), kNoStack);
  auto view = LedgerView::Over(ledger.bytes());
  ASSERT_TRUE(view);
  uint64_t ticks = 0;
  EXPECT_EQ(view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { ticks += site.ticks; }), 0u);
  EXPECT_EQ(ticks, 3u);
  ledger.Close();
}

TEST_F(LedgerFileTest, OutlivesAProcessThatIsKilled) {
  pid_t child = fork();
  if (child == 0) {
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) _exit(1);
    ledger.InternText("still here");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  FILE* file = fopen(path_.c_str(), "rb");
  ASSERT_NE(file, nullptr);
  std::string bytes(1 << 20, '\0');
  bytes.resize(fread(bytes.data(), 1, bytes.size(), file));
  fclose(file);
  EXPECT_NE(bytes.find("still here"), std::string::npos);
}

// Passing RLIMIT_FSIZE is SIGXFSZ, which would kill the program for our sake.
TEST_F(LedgerFileTest, StaysBelowTheFileSizeLimit) {
  pid_t child = fork();
  if (child == 0) {
    struct rlimit limit = {4u << 20, 4u << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    Ledger ledger;
    bool made = static_cast<bool>(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
    _exit(made && ledger.header()->size == (4u << 20) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// Whoever started us must be able to read it, whatever the program's umask.
TEST_F(LedgerFileTest, IsReadableByItsOwnerAlone) {
  EXPECT_EQ(InChild([&] {
              umask(0777);
              Ledger ledger;
              return ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}) ? 0 : 1;
            }),
            0);
  struct stat file = {};
  ASSERT_EQ(stat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
}

// A child that the fork hook never saw (a raw clone) must not record into its parent's file.
TEST_F(LedgerFileTest, IsInertInAForkedChild) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  Frame frame{1};
  StackId stack = ledger.InternStack({&frame, 1}, WalkEnd::kOutermost);
  ASSERT_TRUE(ledger.AddCpuTicks(stack, kNoText, 1));
  EXPECT_EQ(InChild([&] {
              if (ledger.AddCpuTicks(stack, kNoText, 1)) return 1;
              if (ledger.InternText("x") != kNoText) return 2;
              ledger.Count(Loss::kReentered);
              // With a ledger of its own it records again, and the parent's file stays as it is.
              std::string own = path_ + ".child";
              if (!ledger.CreateInFile(own.c_str(), Bytes{kLedgerMinSize})) return 3;
              unlink(own.c_str());
              return ledger.InternText("x") != kNoText ? 0 : 4;
            }),
            0);
  Result<LedgerView> view = LedgerView::Over(ledger.bytes());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->losses(Loss::kReentered), 0u);
  uint64_t ticks = 0;
  view->ForEachCpuSite([&](const LedgerView::CpuSite& site) { ticks += site.ticks; });
  EXPECT_EQ(ticks, 1u);
  EXPECT_TRUE(ledger.AddCpuTicks(stack, kNoText, 1));
  ledger.Close();
}

TEST_F(LedgerFileTest, StaysInItsPlaceInAForkedChild) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  std::string own = path_ + ".child";
  ExpectPlaceToBeKept(ledger, [&] {
    Status made = ledger.CreateInFile(own.c_str(), Bytes{kLedgerDefaultSize});
    unlink(own.c_str());
    return made;
  });
  // Where it cannot be made, too.
  ExpectPlaceToBeKept(ledger, [&] {
    if (ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return false;
    return static_cast<bool>(ledger.CreateAnonymous(Bytes{kLedgerMinSize}));
  });
  ledger.Close();
}

// Old kernels do not know MADV_POPULATE_WRITE, and filters forbid all sorts of calls: there is always another way.
TEST_F(LedgerFileTest, FindsAnotherWayWhenCallsAreForbidden) {
  struct Case {
    std::vector<int> calls;
    uint32_t error;
  };
  for (const Case& c :
       {Case{{SYS_madvise}, EINVAL}, Case{{SYS_madvise}, EPERM}, Case{{SYS_madvise}, ENOSYS},
        Case{{SYS_madvise, SYS_fallocate}, EPERM}, Case{{SYS_madvise, SYS_fallocate}, EOPNOTSUPP},
        Case{{SYS_prlimit64, SYS_getrlimit, SYS_madvise, SYS_fchmod}, EPERM}}) {
    EXPECT_EQ(InChild([&] {
                Forbid(c.calls, c.error);
                Ledger ledger;
                if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
                if (ledger.header()->size != uint64_t{16} << 20) return 2;
                if (ledger.note().find("MADV_POPULATE_WRITE is not available") == std::string_view::npos)
                  return 3;
                std::vector<Frame> frames(1000);
                do {
                  frames[0].value++;
                } while (ledger.InternStack(frames, WalkEnd::kOutermost) != kNoStack);
                return ledger.header()->losses[static_cast<uint32_t>(Loss::kLedgerFull)] == 1 ? 0 : 4;
              }),
              0)
        << c.calls.size() << " calls forbidden, error " << c.error;
    unlink(path_.c_str());
  }
}

// A core dump of the program must not grow by a quarter gigabyte of ours.
TEST_F(LedgerFileTest, IsInNoCoreDump) {
  Ledger ledger;
  ASSERT_TRUE(ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize}));
  std::ifstream smaps("/proc/self/smaps");
  std::string line, flags;
  while (std::getline(smaps, line) && line.find(path_) == std::string::npos) {
  }
  while (std::getline(smaps, line) && flags.empty()) {
    if (line.starts_with("VmFlags:")) flags = line;
  }
  EXPECT_NE(flags.find(" dd"), std::string::npos) << flags;
  ledger.Close();
}

// Work in a tmpfs of this size, mounted at `directory` for the caller alone; false where that is not permitted.
bool MountSmallTmpfs(const std::string& directory, const char* options) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0) return false;
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return mount("tmpfs", directory.c_str(), "tmpfs", 0, options) == 0;
}
constexpr int kCannotMount = 98;

// Touching a page that a full tmpfs cannot give is SIGBUS: the program would die of its profiler.
TEST_F(LedgerFileTest, CountsWhatAFullFileSystemHasNoRoomFor) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=2m")) return kCannotMount;
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
    Frame first{7};
    StackId kept = ledger.InternStack({&first, 1}, WalkEnd::kOutermost);
    std::vector<Frame> frames(500);
    constexpr uint64_t kTicks = 3;  // of each of them
    int dropped = 0;
    for (int i = 0; i < 5000; ++i) {
      frames[0].value++;
      dropped += ledger.InternStack(frames, WalkEnd::kOutermost, kTicks) == kNoStack;
    }
    if (dropped < 4000) return 2;
    uint64_t counted = ledger.header()->losses[static_cast<uint32_t>(Loss::kNoSpace)];
    if (counted != kTicks * static_cast<uint64_t>(dropped)) return 3;
    if (ledger.header()->used > 3u << 20) return 4;  // what could not be had was not used up either
    if (!ledger.AddCpuTicks(kept, kNoText, 1) && ledger.InternStack({&first, 1}, WalkEnd::kOutermost) != kept)
      return 5;
    Result<LedgerView> view = LedgerView::Over(ledger.bytes());
    return view && view->FindStack(kept.value) ? 0 : 6;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
}

TEST_F(LedgerFileTest, LeavesNothingBehindWhereThereIsNoRoomAtAll) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=128k")) return kCannotMount;
    Ledger ledger;
    Status status = ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize});
    if (status || status.error().code != ENOSPC || ledger.is_open()) return 1;
    if (status.error().text.view() != "cannot reserve space in " + path_ + ": No space left on device")
      return 2;
    return access(path_.c_str(), F_OK) == 0 ? 3 : 0;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
}

// Without MADV_POPULATE_WRITE all of it is reserved at once: as much as there is.
TEST_F(LedgerFileTest, TakesWhatASmallFileSystemHasWhenItMustReserveAllOfIt) {
  int result = InChild([&] {
    if (!MountSmallTmpfs(directory_, "size=6m")) return kCannotMount;
    Forbid({SYS_madvise}, EINVAL);
    Ledger ledger;
    if (!ledger.CreateInFile(path_.c_str(), Bytes{kLedgerDefaultSize})) return 1;
    return ledger.header()->size == 4u << 20 ? 0 : 2;
  });
  if (result == kCannotMount) GTEST_SKIP() << "no permission to mount a tmpfs";
  EXPECT_EQ(result, 0);
}

TEST_F(LedgerFileTest, SaysWhyItCannotBeMade) {
  Ledger ledger;
  Status status = ledger.CreateInFile("/nonexistent/ledger", Bytes{kLedgerMinSize});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ENOENT);
  EXPECT_NE(status.error().text.view().find("/nonexistent/ledger"), std::string_view::npos);
  EXPECT_FALSE(ledger.is_open());
}

}  // namespace
}  // namespace profagent
