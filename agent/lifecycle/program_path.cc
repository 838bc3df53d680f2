#include "agent/lifecycle/program_path.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/base/text.h"

namespace profagent {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

std::string_view View(const char* text) { return text != nullptr ? text : std::string_view(); }

bool IsDescriptor(std::string_view path) {
  return path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/");
}

// A file that cannot be read may be one all the same: execution is another permission.
bool MayBeProgram(const char* path) {
  long fd = RawSyscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (SyscallError(fd) != 0) return true;
  char start[SELFMAG];
  bool is_other =
      RawSyscall(SYS_read, fd, start, sizeof start) == SELFMAG && std::memcmp(start, ELFMAG, SELFMAG) != 0;
  RawSyscall(SYS_close, fd);
  return !is_other;
}

std::string_view Absolute(std::string_view path, std::span<char> memory) {
  TextWriter text(memory.data(), memory.size());
  if (!path.empty() && path[0] != '/') {
    char directory[kMaxPath];
    long size = RawSyscall(SYS_getcwd, directory, sizeof directory);  // with its null byte
    // A directory that was removed, or lies outside of the root, has no name from there.
    if (size > 1 && directory[0] == '/') text.Add(directory, directory[1] != '\0' ? "/" : "");
    while (path.starts_with("./")) path.remove_prefix(2);
  }
  text.Add(path);
  return text.truncated() ? std::string_view() : text.view();
}

}  // namespace

ProgramClues ProgramClues::OfThisProcess(const char* argument) {
  ProgramClues clues;
  clues.loader_was_started = getauxval(AT_BASE) == 0;  // the kernel loaded no interpreter: it is the program
  clues.executed_as = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  clues.argument = argument;
  if (clues.loader_was_started) {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* name) {
          *static_cast<const char**>(name) = info->dlpi_name;
          return 1;  // the program is the first
        },
        &clues.loaded_as);
  }
  return clues;
}

std::string_view FindProgramPath(const ProgramClues& clues, std::span<char> memory) {
  if (!clues.loader_was_started) {
    long size = RawSyscall(SYS_readlinkat, AT_FDCWD, clues.link, memory.data(), memory.size());
    bool is_root = size == 1 && memory[0] == '/';  // a mount of the file alone, in no directory
    if (size > 0 && !is_root) return {memory.data(), static_cast<size_t>(size)};
  } else if (!View(clues.loaded_as).empty()) {
    return Absolute(clues.loaded_as, memory);
  }
  std::string_view executed = View(clues.executed_as), argument = View(clues.argument);
  if (!executed.empty() && !IsDescriptor(executed) && MayBeProgram(clues.executed_as))
    return Absolute(executed, memory);
  // Without a slash it was found somewhere in PATH.
  if (argument.find('/') != argument.npos) return Absolute(argument, memory);
  TextWriter text(memory.data(), memory.size());
  return text.Add(argument.empty() ? executed : argument).view();
}

std::string_view ProgramNameOf(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!name.ends_with(kDeleted) || name.size() == kDeleted.size()) return name;
  PathText whole;
  whole.Add(path);
  // A file may really be called so.
  if (RawSyscall(SYS_faccessat, AT_FDCWD, whole.c_str(), F_OK) == 0) return name;
  return name.substr(0, name.size() - kDeleted.size());
}

}  // namespace profagent
