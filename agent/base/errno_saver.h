// Keeps the application's errno over a stretch of agent code.
//
// Context: `hook`, `signal`, `dump`: every entry into the agent that calls libc owns one.
#pragma once

#include <cerrno>

namespace profagent {

class ErrnoSaver {
 public:
  ErrnoSaver() : saved_(errno) {}
  ~ErrnoSaver() { errno = saved_; }
  ErrnoSaver(const ErrnoSaver&) = delete;
  ErrnoSaver& operator=(const ErrnoSaver&) = delete;

 private:
  int saved_;
};

}  // namespace profagent
