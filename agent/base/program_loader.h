// What becomes of our preload in a program that is about to be started.
//
// Context: `hook`, in a vfork child too: raw system calls and the stack only.
// Why:     glibc's loader leaves out a library that it cannot load, and says so. musl's ends the program instead, and from
//          glibc's libraries it can load none; gcc's address sanitizer ends it when its own library is not the first. And
//          who is not loaded cannot take our word for it out of the environment again (lineage.h).
// Scripts: are their interpreter, as for the kernel.
#pragma once

namespace profagent {

// What an exec names its program by.
struct ProgramFile {
  int directory;     // AT_FDCWD, or what `path` is relative to
  const char* path;  // "": `directory` is the program itself
  bool search;       // in PATH, as execvp does
};

enum class FateOfPreload {
  kLoaded,   // also what cannot be read, and what is no program
  kIgnored,  // static; other machines; setuid and its like; our file is not to be found
  kKilled,   // the program, by its loader or its runtime
};

// In a program that is started with this environment, which preloads us.
FateOfPreload FateIn(const ProgramFile& program, char* const* environment);

}  // namespace profagent
