#include "agent/encode/profile_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>

#include <cerrno>
#include <iterator>

#include "agent/base/descriptor_name.h"
#include "agent/base/holding.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/write_signals.h"

namespace profagent {
namespace {

// Writes until all is written or one error came; remembers which.
class Descriptor : private Holding {
 public:
  enum class Owner : uint8_t { kAgent, kApplication };

  Descriptor(int fd, Owner owner)
      : Holding([](Holding* self) { static_cast<Descriptor*>(self)->Close(); }), fd_(fd), owner_(owner) {}
  ~Descriptor() { Close(); }

  bool Write(std::span<const std::byte> bytes) {
    while (!bytes.empty() && error_ == 0) {
      long written = RawSyscall(SYS_write, fd_, bytes.data(), bytes.size());
      int error = SyscallError(written);
      if (error == EINTR) continue;
      if (error == EAGAIN) {
        WaitUntilWritable();
      } else if (error != 0) {
        error_ = error;
      } else if (written == 0) {
        error_ = EIO;  // a device that takes nothing, again and again
      } else {
        bytes = bytes.subspan(static_cast<size_t>(written));
      }
    }
    return error_ == 0;
  }
  void Close() {
    if (owner_ == Owner::kApplication) return;
    owner_ = Owner::kApplication;  // closed once: the number may be another thread's file by now
    int error = SyscallError(RawSyscall(SYS_close, fd_));
    if (error_ == 0 && error != EINTR)
      error_ = error;  // a network file system may say only now that it is full
  }
  int error() const { return error_; }

 private:
  void WaitUntilWritable() {
    struct pollfd poll = {fd_, POLLOUT, 0};
    struct timespec patience = {static_cast<time_t>(kFileWriterPatience.value / kNanosPerSecond), 0};
    long ready = RawSyscall(SYS_ppoll, &poll, 1, &patience, nullptr, 0);
    if (ready == 0) error_ = ETIMEDOUT;
    if (SyscallError(ready) != 0 && SyscallError(ready) != EINTR) error_ = SyscallError(ready);
  }

  int fd_;
  Owner owner_;
  int error_ = 0;
};

// A file that is written to, never by the number of a standard stream: where the program has closed one, its threads may go on
// writing there. So those numbers are taken meanwhile, by what nobody can write to.
long OpenForWriting(const char* path, int flags, int mode) {
  constexpr long kLastStandard = 2;
  long low[kLastStandard + 1];
  size_t count = 0;
  long taken;
  for (;;) {
    taken = RawSyscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_CLOEXEC);
    if (taken < 0 || taken > kLastStandard || count == std::size(low)) break;
    low[count++] = taken;
  }
  if (taken >= 0) RawSyscall(SYS_close, taken);
  long fd = RawSyscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC | flags, mode);
  while (count > 0) RawSyscall(SYS_close, low[--count]);
  return fd;
}

// Removes what has not been renamed to its true name.
class TemporaryName : private Holding {
 public:
  explicit TemporaryName(const PathText& path)
      : Holding([](Holding* self) { static_cast<TemporaryName*>(self)->Remove(); }), path_(path) {}
  ~TemporaryName() { Remove(); }

  // 0, or the kernel's error.
  int RenameTo(const PathText& path) {
    int error = SyscallError(RawSyscall(SYS_renameat, AT_FDCWD, path_.c_str(), AT_FDCWD, path.c_str()));
    there_ = error != 0;
    return error;
  }

 private:
  void Remove() {
    if (there_) RawSyscall(SYS_unlinkat, AT_FDCWD, path_.c_str(), 0);
    there_ = false;
  }

  const PathText& path_;
  bool there_ = true;
};

// Long paths are shown by their end, so that the reason behind them is never cut off.
struct Shown {
  explicit Shown(std::string_view path) : cut(path.size() > kMost ? "..." : ""), end(path) {
    if (path.size() > kMost) end.remove_prefix(path.size() - kMost);
  }
  static constexpr size_t kMost = 150;
  std::string_view cut, end;
};

Error CannotWrite(std::string_view path, int error) {
  Shown shown(path);
  return Error::OfKernel(error, "cannot write ", shown.cut, shown.end);
}

Status Outcome(std::string_view path, const Descriptor& file, const Status& produced) {
  if (file.error() != 0) return CannotWrite(path, file.error());
  if (!produced) {
    Shown shown(path);
    return Error::Of("cannot write ", shown.cut, shown.end, ": ", produced.error().text.view());
  }
  return Done{};
}

// Replaces `path` by the file that its chain of symbolic links means, whether that exists or not.
int FollowLinks(PathText& path) {
  for (int links = 0; links < 40; ++links) {
    if (DescriptorNamedBy(path.view()) >= 0) return 0;
    char target[kMaxPath];
    long size = RawSyscall(SYS_readlinkat, AT_FDCWD, path.c_str(), target, sizeof target);
    if (SyscallError(size) != 0) return 0;  // not a link, or not there
    std::string_view to(target, static_cast<size_t>(size));
    PathText next;
    if (!to.starts_with('/')) next.Add(path.view().substr(0, path.view().rfind('/') + 1));
    next.Add(to);
    if (next.view().size() + 1 >= kMaxPath) return ENAMETOOLONG;
    path = next;
  }
  return ELOOP;
}

Status WriteTo(int fd, Descriptor::Owner owner, std::string_view path,
               FunctionRef<Status(ByteSink)> produce) {
  Descriptor file(fd, owner);
  Status produced = produce([&](std::span<const std::byte> bytes) { return file.Write(bytes); });
  file.Close();
  return Outcome(path, file, produced);
}

Status WriteDirectly(const char* path, int flags, FunctionRef<Status(ByteSink)> produce) {
  // O_NONBLOCK: a FIFO without a reader would block for ever; so it says ENXIO.
  long fd = OpenForWriting(path, O_NOCTTY | O_NONBLOCK | flags, 0);
  if (SyscallError(fd) == ENXIO) {
    return Error::Of("cannot write ", Shown(path).cut, Shown(path).end, ": nobody reads from it");
  }
  if (SyscallError(fd) != 0) return CannotWrite(path, SyscallError(fd));
  return WriteTo(static_cast<int>(fd), Descriptor::Owner::kAgent, path, produce);
}

Status WriteAndRename(const PathText& path, bool exists, FunctionRef<Status(ByteSink)> produce) {
  std::string_view directory = path.view().substr(0, path.view().rfind('/') + 1);
  PathText temporary;
  long fd = -EEXIST;
  for (int attempt = 0; SyscallError(fd) == EEXIST && attempt < 100; ++attempt) {
    temporary = PathText();
    temporary.Add(directory, ".profagent.", RawSyscall(SYS_getpid), ".", attempt, ".tmp");
    fd = OpenForWriting(temporary.c_str(), O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  }
  int error = SyscallError(fd);
  if (exists && (error == EACCES || error == EPERM || error == EROFS)) {
    // The directory takes no new file, but the old one may be ours to write.
    return WriteDirectly(path.c_str(), O_TRUNC | O_NOFOLLOW, produce);
  }
  if (error != 0) return CannotWrite(path.view(), error);
  TemporaryName name(temporary);
  RawSyscall(SYS_fchmod, fd, 0600);  // an application's umask may have taken its owner's rights too
  Status status = WriteTo(static_cast<int>(fd), Descriptor::Owner::kAgent, path.view(), produce);
  if (!status) return status;
  error = name.RenameTo(path);
  if (error != 0) return CannotWrite(path.view(), error);
  return status;
}

}  // namespace

Status WriteProfileFile(const char* path, FunctionRef<Status(ByteSink)> produce) {
  std::string_view name(path);
  if (name.empty()) return CannotWrite("a file without a name", ENOENT);
  if (name.size() + 1 >= kMaxPath) return CannotWrite(name, ENAMETOOLONG);
  WriteSignalsHeld held;

  PathText target;
  target.Add(name);
  int error = FollowLinks(target);
  if (error != 0) return CannotWrite(name, error);
  int fd = DescriptorNamedBy(target.view());
  if (fd >= 0) return WriteTo(fd, Descriptor::Owner::kApplication, name, produce);

  struct stat about = {};
  bool exists = RawSyscall(SYS_newfstatat, AT_FDCWD, target.c_str(), &about, 0) == 0;
  if (exists && S_ISDIR(about.st_mode)) return CannotWrite(name, EISDIR);
  if (exists && S_ISBLK(about.st_mode))
    return CannotWrite(name, EINVAL);  // surely a mistake, and a costly one
  if (exists && !S_ISREG(about.st_mode)) return WriteDirectly(target.c_str(), 0, produce);
  return WriteAndRename(target, exists, produce);
}

PathText WrittenFile(const PathText& path) {
  PathText file = path;
  struct stat about = {};
  if (FollowLinks(file) != 0 || DescriptorNamedBy(file.view()) >= 0) return {};
  bool exists = RawSyscall(SYS_newfstatat, AT_FDCWD, file.c_str(), &about, 0) == 0;
  return exists && S_ISREG(about.st_mode) ? file : PathText{};
}

}  // namespace profagent
