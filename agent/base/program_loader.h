// Whether a program that is about to be started would die of our preload.
//
// Context: `hook`, in a vfork child too: raw system calls and the stack only.
// Why:     glibc's loader leaves out a library that it cannot load, and says so. musl's ends the program instead, and from
//          glibc's libraries it can load none. Other loaders are left to the user's own judgement of LD_PRELOAD.
#pragma once

namespace profagent {

// What an exec names its program by.
struct ProgramFile {
  int directory;     // AT_FDCWD, or what `path` is relative to
  const char* path;  // "": `directory` is the program itself
  bool search;       // in PATH, as execvp does
};

// False also for what cannot be read, and for scripts.
bool DiesOfPreload(const ProgramFile& program);

}  // namespace profagent
