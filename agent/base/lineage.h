// Which place a process has among the processes that share one environment: the first of them, or a later one.
//
// Context: ReadLineage in `bootstrap`, before any other thread and before main; the rest in `hook`, in a vfork child too.
// How:     an exec that goes through our hooks hands the answer over in one environment variable, which the new program's agent
//          takes out of its environment again before the program can see it. What libc starts itself (posix_spawn, system,
//          popen) brings no such word: then a parent whose own environment preloads an agent and names the same profile says
//          that we are later.
// Wrong when: the parent is gone already and libc itself started us: then we count as first. The name is then
//          the plain one; a name with %p avoids the question.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace profagent {

enum class Lineage { kFirst, kFirstByExec, kLater };

inline constexpr std::string_view kLineageVariable = "PROFAGENT_LINEAGE=";

// Removes kLineageVariable from `environment` (in place, as unsetenv would).
Lineage ReadLineage(char** environment);

// The environment for a program that is about to be started and will load us: `environment` plus the word of its lineage, in
// `room`, which has space for CountVariables(environment) + 2 pointers. `environment` itself when it does not
// preload us. What another thread sets after the count is left out: the caller may be a vfork child.
size_t CountVariables(char* const* environment);
char* const* WithLineage(char* const* environment, bool first, std::span<char*> room);

// As LD_PRELOAD names us there; empty: it does not.
std::string_view OurLibraryIn(char* const* environment);

// The environment for a program that would die of us, in `room` as above and in `text`, which has space for
// PreloadSize(environment) characters: other libraries stay in LD_PRELOAD.
size_t PreloadSize(char* const* environment);
char* const* WithoutPreload(char* const* environment, std::span<char*> room, char* text);

}  // namespace profagent
