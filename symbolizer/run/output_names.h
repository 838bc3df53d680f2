// Where the profiles of a run go: -o and the rules of names.
//
// Context: `offline`.
// Kinds:   in a directory each kind has its own name (cpu.prof, heap.prof, heap-peak.prof, block.prof, mutex.prof). Of a
//          NAME, the CPU profile or the only kind that is taken keeps it; the others put their kind before its
//          extension: x.prof, x.heap.prof, x.heap-peak.prof. A device or a pipe takes them all.
// Rules:   the command's own process takes the plain name, every other process NAME.PROGRAM.PID. A process that became
//          another program (exec) leaves the plain name to that one and takes NAME.PROGRAM.PID with its old program's
//          name. %p in NAME stands for the pid and %e for the program (%% for a per cent sign); with %p nothing is
//          added but by such a process. %n is the number after those of the dumps that a signal asked for. A directory's
//          % is nothing but that. An image whose name this run has given already, for whichever kind, gets .2, .3 ...
//          for every kind: nobody overwrites anybody, and files of one image are called alike.
#pragma once

#include <time.h>

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "symbolizer/run/run_kinds.h"

namespace profagent {

// A process from its start, or an exec or fork, to its end or the next exec.
struct ImageName {
  std::string_view program;
  uint32_t pid;
  uint32_t serial = 0;          // tells images of one process apart
  bool became_another = false;  // by exec
};

class OutputNames {
 public:
  // `wanted`: what -o says, empty when it was not given. A directory (it exists, or the text ends with a slash: then it
  // is made). An error when no file could be written there, before anything was run.
  static Result<OutputNames> Prepare(const std::string& wanted, std::span<const ProfileKind> kinds);

  // Files of these names that came into being since Prepare: written by processes that could not use the ledger
  // directory (it was full, or closed to them) and so wrote their profiles themselves. They are not given away again.
  // A pattern with %p or %e is not looked for. Dumps that were asked for by a signal (NAME.N, NAME.PROGRAM.PID.N) are
  // none of these; `recorded` says which ".PROGRAM.PID" have records.
  struct SelfWritten {
    ProfileKind kind;
    std::string file;
  };
  std::vector<SelfWritten> TakeSelfWritten(const std::set<std::string>& recorded);

  // The name of the command's own profile.
  std::string Plain(ProfileKind kind, std::string_view program, uint32_t pid) const;
  bool IsTaken(const std::string& name) const { return given_.contains(name); }
  // Not a file but a device or a pipe: it is written to as it is.
  bool is_device() const { return is_device_; }

  // Each call gives a name away. Plain names are to be taken first.
  std::string Next(ProfileKind kind, const ImageName& image, bool plain);

  // Absolute; % of directories doubled.
  const std::map<ProfileKind, std::string>& patterns() const { return patterns_; }

 private:
  std::string Expand(ProfileKind kind, const ImageName& image, bool plain, uint32_t dump_number) const;
  std::string NameOf(ProfileKind kind, const ImageName& image, bool plain) const;
  uint32_t NumberOf(const ImageName& image);

  // A file and its inode. Whoever writes a profile renames it into place, so a new profile is a new inode.
  using Files = std::set<std::pair<std::string, uint64_t>>;
  Files FilesBeside() const;
  const ProfileKind* KindOf(const std::string& file) const;  // nullptr: no name of a process's profile

  OutputNames(std::string directory, std::map<ProfileKind, std::string> patterns, bool is_device);

  std::string directory_;  // absolute, as it is called, with a slash behind it
  std::map<ProfileKind, std::string> patterns_;
  bool is_device_;
  timespec prepared_{};
  Files before_;
  std::set<std::string> given_;
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> numbers_;  // by pid and serial: 1 has none in its name
};

// ".PROGRAM.PID": what every process but the command's own has behind the name.
std::string ProcessSuffix(std::string_view program, uint32_t pid);

}  // namespace profagent
