#include "agent/base/program_loader.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "agent/base/raw_syscall.h"
#include "agent/base/text.h"

namespace profagent {
namespace {

constexpr std::string_view kMusl = "/ld-musl-";
constexpr size_t kMaxPath = 4096;

bool ReadAt(int fd, void* memory, size_t size, uint64_t offset) {
  return RawSyscall(SYS_pread64, fd, memory, size, offset) == static_cast<long>(size);
}

bool HasMuslLoader(int fd) {
  Elf64_Ehdr header;
  if (!ReadAt(fd, &header, sizeof header, 0) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return false;
  }
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!ReadAt(fd, &segment, sizeof segment, header.e_phoff + i * sizeof segment)) return false;
    if (segment.p_type != PT_INTERP) continue;
    char loader[128];
    size_t size = segment.p_filesz < sizeof loader ? segment.p_filesz : sizeof loader;
    return ReadAt(fd, loader, size, segment.p_offset) &&
           std::string_view(loader, size).find(kMusl) != std::string_view::npos;
  }
  return false;
}

bool HasMuslLoader(int directory, const char* path) {
  auto fd = static_cast<int>(RawSyscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  // fexecve and execveat name the program by a descriptor and an empty path, which openat does not find. Looked at by the kernel
  // and not here: a pointer that leads nowhere is for the exec itself to refuse.
  if (SyscallError(fd) == ENOENT) return HasMuslLoader(directory);
  if (fd < 0) return false;
  bool has = HasMuslLoader(fd);
  RawSyscall(SYS_close, fd);
  return has;
}

}  // namespace

bool DiesOfPreload(const ProgramFile& program) {
  if (!program.search || std::strchr(program.path, '/') != nullptr)
    return HasMuslLoader(program.directory, program.path);
  std::string_view rest = "/bin:/usr/bin";  // as libc's execvp, which takes the first PATH
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "PATH=", 5) != 0) continue;
    rest = *variable + 5;
    break;
  }
  while (!rest.empty()) {
    std::string_view place = rest.substr(0, rest.find(':'));
    rest.remove_prefix(place.size() < rest.size() ? place.size() + 1 : rest.size());
    FixedText<kMaxPath> path;
    path.Add(place, place.empty() ? "" : "/", program.path);
    if (RawSyscall(SYS_faccessat, AT_FDCWD, path.c_str(), X_OK) == 0)
      return HasMuslLoader(AT_FDCWD, path.c_str());
  }
  return false;
}

}  // namespace profagent
