#include "agent/base/log.h"

#include <fcntl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/base/raw_syscall.h"
#include "agent/base/write_signals.h"

namespace profagent {
namespace {

constexpr int kStandardError = 2;
// For a reader that is only slow. One that does not read at all must not stop the program.
constexpr struct timespec kPatience = {0, 100'000'000};

struct File {
  bool remembered;
  bool open;
  dev_t device;
  ino_t inode;
};
constinit File g_at_start{};

bool IsInheritedLog(const struct stat& file) {
  long flags = RawSyscall(SYS_fcntl, kStandardError, F_GETFL);
  long descriptor_flags = RawSyscall(SYS_fcntl, kStandardError, F_GETFD);
  return S_ISREG(file.st_mode) && SyscallError(flags) == 0 && (flags & O_APPEND) != 0 &&
         descriptor_flags == 0;
}

bool IsStillTheProgramsStandardError() {
  struct stat now = {};
  if (RawSyscall(SYS_fstat, kStandardError, &now) != 0) return false;
  if (!g_at_start.remembered) return true;
  bool same = g_at_start.open && now.st_dev == g_at_start.device && now.st_ino == g_at_start.inode;
  return same || IsInheritedLog(now);
}

// A pipe that is writable takes a line whole. Not poll: where no descriptor may be opened any more (RLIMIT_NOFILE 0) it takes none.
bool TakesALine() {
  fd_set writable;
  FD_ZERO(&writable);
  FD_SET(kStandardError, &writable);
  struct timespec patience = kPatience;
  return RawSyscall(SYS_pselect6, kStandardError + 1, nullptr, &writable, nullptr, &patience, nullptr) > 0;
}

}  // namespace

PROF_WRITTEN_AT_START constinit Verbosity g_verbosity = Verbosity::kErrors;

void RememberStandardError() {
  struct stat now = {};
  bool open = RawSyscall(SYS_fstat, kStandardError, &now) == 0;
  g_at_start = {true, open, now.st_dev, now.st_ino};
}

void WriteLogLine(std::string_view line) {
  if (!IsStillTheProgramsStandardError() || !TakesALine()) return;
  char memory[1100];
  TextWriter text(memory, sizeof memory);
  text.Add("profagent: ", line.substr(0, 1024), '\n');
  // Names and values are the user's: a line break in them would make two lines, other controls drive a terminal.
  for (size_t at = 0; at + 1 < text.size(); ++at)
    if (static_cast<unsigned char>(memory[at]) < ' ' || memory[at] == 0x7f) memory[at] = '?';
  WriteSignalsHeld held;
  RawSyscall(SYS_write, kStandardError, text.c_str(), text.size());
}

}  // namespace profagent
