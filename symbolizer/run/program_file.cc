#include "symbolizer/run/program_file.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

namespace profagent {
namespace {

constexpr int kMaxInterpreters = 5;  // as the kernel: a script's interpreter may be a script

// 0, or why this file cannot be executed.
int ExecutionError(const std::string& file) {
  struct stat info = {};
  if (stat(file.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (faccessat(AT_FDCWD, file.c_str(), X_OK, AT_EACCESS) != 0) return errno;
  return 0;
}

Error NotRunnable(const std::string& command, int code) {
  Error error;
  if (code == ENOENT || code == ENOTDIR) {
    error = Error::Of(command, ": command not found");
    error.code = ENOENT;
  } else {
    error =
        Error::Of(command, ": cannot be executed: ", code == EISDIR ? "it is a directory" : strerror(code));
    error.code = code;
  }
  return error;
}

template <class T>
bool ReadAt(std::ifstream& file, uint64_t offset, T* value) {
  file.clear();
  file.seekg(static_cast<std::streamoff>(offset));
  return static_cast<bool>(file.read(reinterpret_cast<char*>(value), sizeof *value));
}

std::string WhyNotThisElf(std::ifstream& file) {
  Elf64_Ehdr header = {};
  if (!ReadAt(file, 0, &header)) return "its ELF header is cut short";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    return "it is not a 64-bit x86-64 program";
  }
  for (uint32_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = {};
    if (!ReadAt(file, header.e_phoff + uint64_t{i} * header.e_phentsize, &segment)) break;
    if (segment.p_type != PT_INTERP) continue;
    std::string loader(std::min<uint64_t>(segment.p_filesz, 4096), '\0');
    file.seekg(static_cast<std::streamoff>(segment.p_offset));
    file.read(loader.data(), static_cast<std::streamsize>(loader.size()));
    if (loader.find("ld-musl") != std::string::npos) return "it is linked with musl, the agent needs glibc";
    return {};
  }
  return "it is statically linked: nothing can be preloaded into it";
}

}  // namespace

Result<std::string> FindProgram(const std::string& command, const char* path) {
  if (command.empty()) return NotRunnable("''", ENOENT);
  if (command.find('/') != std::string::npos) {
    int code = ExecutionError(command);
    if (code != 0) return NotRunnable(command, code);
    return command;
  }
  // As execvp: a file of this name that may not be executed does not end the search, but is what the user hears of.
  std::string_view rest = path != nullptr ? path : "/bin:/usr/bin";
  int worst = ENOENT;
  for (;;) {
    const size_t colon = rest.find(':');
    std::string directory(rest.substr(0, colon));
    std::string file = directory.empty() ? "./" + command : directory + "/" + command;
    int code = ExecutionError(file);
    if (code == 0) return file;
    if (code != ENOENT && code != ENOTDIR && code != EISDIR) worst = code;
    if (colon == std::string_view::npos) return NotRunnable(command, worst);
    rest.remove_prefix(colon + 1);
  }
}

std::string WhyNotPreloadable(const std::string& program) {
  std::string file = program;
  for (int depth = 0; depth < kMaxInterpreters; ++depth) {
    struct stat info = {};
    if (stat(file.c_str(), &info) != 0) return {};
    // The loader ignores LD_PRELOAD where the file changes the user's rights (AT_SECURE). Of a script only the
    // interpreter's file counts.
    std::ifstream in(file, std::ios::binary);
    std::string start(256, '\0');
    in.read(start.data(), static_cast<std::streamsize>(start.size()));
    start.resize(static_cast<size_t>(in.gcount()));
    if (start.starts_with("#!")) {
      std::string line = start.substr(2, start.find('\n') - 2);
      size_t begin = line.find_first_not_of(" \t");
      if (begin == std::string::npos) return {};
      file = line.substr(begin, line.find_first_of(" \t\r", begin) - begin);
      continue;
    }
    const bool other_user = (info.st_mode & S_ISUID) != 0 && info.st_uid != geteuid();
    const bool other_group = (info.st_mode & S_ISGID) != 0 && info.st_gid != getegid();
    if (other_user || other_group) {
      return std::string("it is ") + (other_user ? "setuid" : "setgid") + ": the loader ignores LD_PRELOAD";
    }
    if (geteuid() != 0 && getxattr(file.c_str(), "security.capability", nullptr, 0) > 0) {
      return "it has file capabilities: the loader ignores LD_PRELOAD";
    }
    if (start.starts_with(ELFMAG)) return WhyNotThisElf(in);
    return {};  // no ELF file, no script: execvp gives it to /bin/sh
  }
  return {};
}

}  // namespace profagent
