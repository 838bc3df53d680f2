// Which program this process runs: where its file is, and what it is called.
//
// Context: `bootstrap`, and the child of a fork. Raw system calls, no allocation.
// How:     /proc/self/exe. It names the loader where that was started with the program as its argument (`ld.so ./app`), which knows
//          what it loaded; and it is not there in a chroot or container without /proc, and is / where the file was mounted by
//          itself, to be executed from a descriptor (crun). Then what the kernel was asked to execute counts (AT_EXECFN), and
//          argv[0] where that is a script or a descriptor (fexecve), which are no program.
#pragma once

#include <span>
#include <string_view>

namespace profagent {

struct ProgramClues {
  const char* link = "/proc/self/exe";
  bool loader_was_started = false;    // and not the program
  const char* loaded_as = nullptr;    // the loader's name of the program; "": it had none to give
  const char* executed_as = nullptr;  // AT_EXECFN
  const char* argument = nullptr;     // argv[0]

  static ProgramClues OfThisProcess(const char* argument);
};

// In `memory`; absolute where that can be told, "" when nothing tells. A removed file has the kernel's " (deleted)" behind it.
std::string_view FindProgramPath(const ProgramClues& clues, std::span<char> memory);

// The last component, without the kernel's addition.
std::string_view ProgramNameOf(std::string_view path);

}  // namespace profagent
