// When each ledger was let go by its process: the time of death of one that could not write it down.
//
// Context:  `offline`.
// Why:      a thread that waits is in the block profile with the time so far. A process that was killed long before the command
//           ended waits no more, and nobody tells us of its death but its parent's child, which we are not.
// How:      inotify of the directory. A mapping keeps its file open: what the kernel calls closed was unmapped, by the process's
//           end or an exec. The event has no time, so whoever waits for something else waits for us too.
// Without:  (no inotify instance is left, events were lost) no time is known, and the harvest takes its own.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "agent/base/units.h"

namespace profagent {

Nanos MonotonicNow();

class LedgerWatch {
 public:
  // `on_release` is called with the name of each file that was let go of, by Note.
  explicit LedgerWatch(const std::string& directory,
                       std::function<void(const std::string& name)> on_release = nullptr);
  ~LedgerWatch();
  LedgerWatch(const LedgerWatch&) = delete;
  LedgerWatch& operator=(const LedgerWatch&) = delete;

  // Readable when there is something to note; -1: never.
  int fd() const { return fd_; }
  // What happened up to now. Does not wait.
  void Note();
  // The file of that path; 0: not known, or not yet.
  Nanos ReleasedAt(const std::string& path) const;

 private:
  int fd_;
  std::function<void(const std::string& name)> on_release_;
  std::map<std::string, Nanos> released_;  // by the file's name
};

}  // namespace profagent
