#include "agent/base/program_loader.h"

#include <alloca.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "agent/base/lineage.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/text.h"

namespace profagent {
namespace {

constexpr std::string_view kMusl = "/ld-musl-";
constexpr size_t kMaxName = 255;
constexpr size_t kMaxHead = 256;      // what the kernel reads of a file to see what it is
constexpr int kMaxInterpreters = 5;   // of scripts that interpret scripts; the kernel's limit
constexpr size_t kMaxSegments = 24;   // looked at
constexpr size_t kMaxDynamic = 1024;  // entries, likewise

// Of read's kind: the number of bytes, not more than `size`.
long ReadAt(int fd, void* memory, size_t size, uint64_t offset) {
  return RawSyscall(SYS_pread64, fd, memory, size, offset);
}

// A descriptor of ours, or the caller's.
class Program {
 public:
  Program(int directory, const char* path) {
    fd_ = static_cast<int>(RawSyscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    ours_ = fd_ >= 0;
    // fexecve and execveat name the program by a descriptor and an empty path, which openat does not find. Looked at by the
    // kernel and not here: a pointer that leads nowhere is for the exec itself to refuse.
    if (SyscallError(fd_) == ENOENT) fd_ = directory;
  }
  ~Program() { Close(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int fd() const { return fd_; }
  void Become(const char* interpreter) {
    Close();
    fd_ = static_cast<int>(RawSyscall(SYS_openat, AT_FDCWD, interpreter, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    ours_ = fd_ >= 0;
  }

 private:
  void Close() {
    if (ours_) RawSyscall(SYS_close, fd_);
  }

  int fd_;
  bool ours_;
};

// Of "#!/bin/sh -e": its end in `head`, which is ended there. nullptr: none.
const char* InterpreterIn(char (&head)[kMaxHead + 1]) {
  char* path = head + 2;
  path += std::strspn(path, " \t");
  path[std::strcspn(path, " \t\n")] = '\0';
  return *path != '\0' ? path : nullptr;
}

// The kernel's rule for AT_SECURE, under which the loader takes no library by its path, and our agent does nothing.
bool GainsPrivilege(int fd) {
  struct stat file = {};
  struct statfs system = {};
  if (RawSyscall(SYS_fstat, fd, &file) != 0) return false;
  auto user = static_cast<uid_t>(RawSyscall(SYS_geteuid));
  auto group = static_cast<gid_t>(RawSyscall(SYS_getegid));
  bool by_group = (file.st_mode & S_ISGID) != 0 && (file.st_mode & S_IXGRP) != 0;
  bool is_user = RawSyscall(SYS_getuid) != 0;
  bool by_capability =
      is_user && RawSyscall(SYS_fgetxattr, fd, "security.capability", nullptr, size_t{0}) > 0;
  if ((file.st_mode & S_ISUID) != 0 || by_group || by_capability) {
    bool honoured = RawSyscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 &&
                    RawSyscall(SYS_fstatfs, fd, &system) == 0 && (system.f_flags & ST_NOSUID) == 0;
    if (honoured && by_capability) return true;
    if (honoured && (file.st_mode & S_ISUID) != 0) user = file.st_uid;
    if (honoured && by_group) group = file.st_gid;
  }
  return user != RawSyscall(SYS_getuid) || group != RawSyscall(SYS_getgid);
}

struct Segments {
  Elf64_Phdr all[kMaxSegments];
  size_t count = 0;

  const Elf64_Phdr* Find(uint32_t type) const {
    for (size_t i = 0; i < count; ++i) {
      if (all[i].p_type == type) return &all[i];
    }
    return nullptr;
  }
  // 0: in none of them.
  uint64_t OffsetOf(uint64_t address) const {
    for (size_t i = 0; i < count; ++i) {
      const Elf64_Phdr& segment = all[i];
      if (segment.p_type == PT_LOAD && address - segment.p_vaddr < segment.p_filesz)
        return address - segment.p_vaddr + segment.p_offset;
    }
    return 0;
  }
};

// Each entry of the dynamic section until `visit` says that it is enough.
template <class Visit>
void ForEachDynamic(int fd, const Elf64_Phdr& dynamic, Visit visit) {
  constexpr size_t kAtOnce = 32;
  Elf64_Dyn entries[kAtOnce];
  for (size_t first = 0; first < kMaxDynamic; first += kAtOnce) {
    long size = ReadAt(fd, entries, sizeof entries, dynamic.p_offset + first * sizeof *entries);
    for (size_t i = 0; i < kAtOnce; ++i) {
      if (size < static_cast<long>((i + 1) * sizeof *entries) || entries[i].d_tag == DT_NULL) return;
      if (visit(entries[i])) return;
    }
  }
}

// Shared libraries only: linked into the program it cares for no order.
bool NeedsAddressSanitizer(int fd, const Segments& segments) {
  const Elf64_Phdr* dynamic = segments.Find(PT_DYNAMIC);
  if (dynamic == nullptr) return false;
  uint64_t names = 0;
  ForEachDynamic(fd, *dynamic, [&](const Elf64_Dyn& entry) {
    if (entry.d_tag == DT_STRTAB) names = segments.OffsetOf(entry.d_un.d_ptr);
    return names != 0;
  });
  bool needs = false;
  ForEachDynamic(fd, *dynamic, [&](const Elf64_Dyn& entry) {
    if (entry.d_tag != DT_NEEDED || names == 0) return false;
    char name[24];
    long size = ReadAt(fd, name, sizeof name, names + entry.d_un.d_val);
    std::string_view library(name, size > 0 ? static_cast<size_t>(size) : 0);
    needs = library.starts_with("libasan.") || library.starts_with("libclang_rt.asan");
    return needs;
  });
  return needs;
}

bool AsanBearsPreload(char* const* environment) {
  for (char* const* variable = environment; *variable != nullptr; ++variable) {
    std::string_view text = *variable;
    if (text.starts_with("ASAN_OPTIONS=") && text.find("verify_asan_link_order=0") != text.npos) return true;
  }
  return false;
}

// A static PIE asks for no loader, and neither does the loader itself when it is started as a program.
bool IsLoader(int fd, const Elf64_Ehdr& header, const Segments& segments) {
  const Elf64_Phdr* dynamic = segments.Find(PT_DYNAMIC);
  if (header.e_type != ET_DYN || dynamic == nullptr) return false;
  bool is_program = false;
  ForEachDynamic(fd, *dynamic, [&](const Elf64_Dyn& entry) {
    is_program = entry.d_tag == DT_FLAGS_1 && (entry.d_un.d_val & DF_1_PIE) != 0;
    return is_program;
  });
  return !is_program;
}

FateOfPreload FateInElf(int fd, const Elf64_Ehdr& header, char* const* environment) {
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) return FateOfPreload::kIgnored;
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return FateOfPreload::kLoaded;
  Segments segments;
  size_t wanted = header.e_phnum < kMaxSegments ? header.e_phnum : kMaxSegments;
  long size = ReadAt(fd, segments.all, wanted * sizeof(Elf64_Phdr), header.e_phoff);
  if (size != static_cast<long>(wanted * sizeof(Elf64_Phdr))) return FateOfPreload::kLoaded;
  segments.count = wanted;

  const Elf64_Phdr* interpreter = segments.Find(PT_INTERP);
  if (interpreter == nullptr) {
    return IsLoader(fd, header, segments) ? FateOfPreload::kLoaded : FateOfPreload::kIgnored;
  }
  char loader[128];
  size_t length = interpreter->p_filesz < sizeof loader ? interpreter->p_filesz : sizeof loader;
  size = ReadAt(fd, loader, length, interpreter->p_offset);
  if (size > 0 && std::string_view(loader, static_cast<size_t>(size)).find(kMusl) != std::string_view::npos)
    return FateOfPreload::kKilled;
  if (GainsPrivilege(fd)) return FateOfPreload::kIgnored;
  if (NeedsAddressSanitizer(fd, segments) && !AsanBearsPreload(environment)) return FateOfPreload::kKilled;
  return FateOfPreload::kLoaded;
}

FateOfPreload FateInFile(int directory, const char* path, char* const* environment) {
  Program program(directory, path);
  for (int scripts = 0; scripts <= kMaxInterpreters; ++scripts) {
    char head[kMaxHead + 1] = {};
    long size = program.fd() >= 0 ? ReadAt(program.fd(), head, kMaxHead, 0) : 0;
    if (size >= 2 && head[0] == '#' && head[1] == '!') {
      const char* interpreter = InterpreterIn(head);
      if (interpreter == nullptr) break;
      program.Become(interpreter);
      continue;
    }
    Elf64_Ehdr header;
    if (size < static_cast<long>(sizeof header) || std::memcmp(head, ELFMAG, SELFMAG) != 0) break;
    std::memcpy(&header, head, sizeof header);
    return FateInElf(program.fd(), header, environment);
  }
  return FateOfPreload::kLoaded;
}

// Another root or mount namespace may be without our file: its loader says so, and the program runs on.
bool IsThere(const char* library) {
  if (std::strchr(library, '/') == nullptr || std::strchr(library, '$') != nullptr) return true;
  int error = SyscallError(RawSyscall(SYS_faccessat, AT_FDCWD, library, R_OK));
  return error != ENOENT && error != ENOTDIR && error != EACCES;
}

}  // namespace

// Room for paths is taken as libc's execvp takes it, no more than they need: the stack may be a handler's of 8 KiB.
FateOfPreload FateIn(const ProgramFile& program, char* const* environment) {
  std::string_view ours = OurLibraryIn(environment);
  size_t size = std::min(ours.size() + 1, kMaxPath);
  TextWriter library(static_cast<char*>(alloca(size)), size);
  if (!IsThere(library.Add(ours).c_str())) return FateOfPreload::kIgnored;
  if (!program.search || std::strchr(program.path, '/') != nullptr)
    return FateInFile(program.directory, program.path, environment);
  std::string_view rest = "/bin:/usr/bin";  // as libc's execvp, which takes the first PATH
  for (char** variable = __environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "PATH=", 5) != 0) continue;
    rest = *variable + 5;
    break;
  }
  size = std::min(rest.size(), kMaxPath) + std::min(std::strlen(program.path), kMaxName) + 2;
  char* room = static_cast<char*>(alloca(size));
  while (!rest.empty()) {
    std::string_view place = rest.substr(0, rest.find(':'));
    rest.remove_prefix(place.size() < rest.size() ? place.size() + 1 : rest.size());
    TextWriter path(room, size);
    path.Add(place, place.empty() ? "" : "/", program.path);
    if (RawSyscall(SYS_faccessat, AT_FDCWD, path.c_str(), X_OK) == 0)
      return FateInFile(AT_FDCWD, path.c_str(), environment);
  }
  return FateOfPreload::kLoaded;
}

}  // namespace profagent
