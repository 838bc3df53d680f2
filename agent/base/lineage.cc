#include "agent/base/lineage.h"

#include <fcntl.h>
#include <unistd.h>

#include <span>

#include "agent/base/arena.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/text.h"

namespace profagent {
namespace {

constexpr char kFirstWord[] = "PROFAGENT_LINEAGE=first";
constexpr char kLaterWord[] = "PROFAGENT_LINEAGE=later";
constexpr std::string_view kPreload = "LD_PRELOAD=";
constexpr std::string_view kLibrary = "libprofagent";
constexpr size_t kMaxEnvironment = size_t{1} << 20;  // a parent with more of it is taken for none of ours

bool PreloadsUs(std::string_view variable) {
  return variable.starts_with(kPreload) && variable.find(kLibrary) != std::string_view::npos;
}

// The variables that give a process profiles: equal in parent and child when the child inherited them.
bool NamesProfile(std::string_view variable) {
  constexpr std::string_view kNames[] = {
      "CPUPROFILE=", "HEAPPROFILE=",   "PEAKPROFILE=",          "BLOCKPROFILE=",         "MUTEXPROFILE=",
      "BLOCKRATE=",  "MUTEXFRACTION=", "PROFAGENT_CPUPROFILE=", "PROFAGENT_HEAPPROFILE="};
  for (std::string_view name : kNames) {
    if (variable.starts_with(name)) return true;
  }
  return false;
}

std::string_view ReadFully(int fd, char* room, size_t capacity) {
  size_t size = 0;
  while (size < capacity) {
    long n = RawSyscall(SYS_read, fd, room + size, capacity - size);
    if (n <= 0) break;
    size += static_cast<size_t>(n);
  }
  return {room, size};
}

// In `room`, or in the arena when it is too large for that: what is mapped costs a program's start a page fault.
std::string_view ReadParentEnvironment(std::span<char> room, Arena& arena) {
  FixedText<48> path;
  path.Add("/proc/", RawSyscall(SYS_getppid), "/environ");
  int fd = static_cast<int>(RawSyscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd < 0) return {};
  std::string_view text = ReadFully(fd, room.data(), room.size());
  if (text.size() == room.size()) {
    char* large = static_cast<char*>(arena.Allocate(kMaxEnvironment));
    RawSyscall(SYS_lseek, fd, 0, SEEK_SET);
    text = large != nullptr ? ReadFully(fd, large, kMaxEnvironment) : std::string_view();
  }
  RawSyscall(SYS_close, fd);
  return text;
}

bool ParentSharesOurProfiles(char* const* environment) {
  bool any = false;
  for (char* const* ours = environment; *ours != nullptr; ++ours) any |= NamesProfile(*ours);
  if (!any) return false;
  char room[4096];
  Arena arena;
  std::string_view rest = ReadParentEnvironment(room, arena);
  bool preloaded = false;
  bool same_profile = false;
  while (!rest.empty()) {
    size_t end = rest.find('\0');
    std::string_view variable = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    preloaded |= PreloadsUs(variable);
    if (!NamesProfile(variable)) continue;
    for (char* const* ours = environment; *ours != nullptr; ++ours) same_profile |= variable == *ours;
  }
  return preloaded && same_profile;
}

// And it has its place in `room`, with two more behind it.
bool HasNext(char* const* variable, size_t count, std::span<char*> room) {
  return variable != nullptr && *variable != nullptr && count + 2 < room.size();
}

}  // namespace

Lineage ReadLineage(char** environment) {
  if (environment == nullptr) return Lineage::kFirst;
  Lineage told = Lineage::kFirst;
  bool was_told = false;
  char** to = environment;
  for (char** from = environment; *from != nullptr; ++from) {
    std::string_view variable = *from;
    if (variable.starts_with(kLineageVariable)) {
      told = variable == kFirstWord ? Lineage::kFirstByExec : Lineage::kLater;
      was_told = true;
      continue;
    }
    *to++ = *from;
  }
  *to = nullptr;
  if (was_told) return told;
  return ParentSharesOurProfiles(environment) ? Lineage::kLater : Lineage::kFirst;
}

size_t CountVariables(char* const* environment) {
  size_t count = 0;
  while (environment != nullptr && environment[count] != nullptr) ++count;
  return count;
}

size_t PreloadSize(char* const* environment) {
  size_t size = 0;
  for (char* const* variable = environment; variable != nullptr && *variable != nullptr; ++variable) {
    std::string_view text = *variable;
    if (PreloadsUs(text)) size += text.size() + 1;
  }
  return size;
}

std::string_view OurLibraryIn(char* const* environment) {
  for (char* const* variable = environment; variable != nullptr && *variable != nullptr; ++variable) {
    std::string_view rest = *variable;
    if (!PreloadsUs(rest)) continue;
    rest.remove_prefix(kPreload.size());
    while (!rest.empty()) {
      std::string_view library = rest.substr(0, rest.find_first_of(": "));
      if (library.find(kLibrary) != std::string_view::npos) return library;
      rest.remove_prefix(library.size() < rest.size() ? library.size() + 1 : rest.size());
    }
  }
  return {};
}

char* const* WithoutPreload(char* const* environment, std::span<char*> room, char* text) {
  size_t count = 0;
  for (char* const* variable = environment; HasNext(variable, count, room); ++variable) {
    std::string_view rest = *variable;
    if (!PreloadsUs(rest)) {
      room[count++] = *variable;
      continue;
    }
    rest.remove_prefix(kPreload.size());
    TextWriter others(text, kPreload.size() + rest.size() + 1);
    others.Add(kPreload);
    while (!rest.empty()) {
      std::string_view library = rest.substr(0, rest.find_first_of(": "));
      rest.remove_prefix(library.size() < rest.size() ? library.size() + 1 : rest.size());
      if (library.empty() || library.find(kLibrary) != std::string_view::npos) continue;
      others.Add(others.size() > kPreload.size() ? ":" : "", library);
    }
    if (others.size() > kPreload.size()) room[count++] = text;
    text = text + others.size() + 1;
  }
  room[count] = nullptr;
  return room.data();
}

char* const* WithLineage(char* const* environment, bool first, std::span<char*> room) {
  bool preloads_us = false;
  size_t count = 0;
  for (char* const* variable = environment; HasNext(variable, count, room); ++variable) {
    if (std::string_view(*variable).starts_with(kLineageVariable)) continue;
    preloads_us |= PreloadsUs(*variable);
    room[count++] = *variable;
  }
  if (!preloads_us) return environment;
  room[count] = const_cast<char*>(first ? kFirstWord : kLaterWord);
  room[count + 1] = nullptr;
  return room.data();
}

}  // namespace profagent
