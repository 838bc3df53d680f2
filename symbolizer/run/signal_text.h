// What a signal is called in messages.
//
// Context: `offline`.
#pragma once

#include <string>

namespace profagent {

// "SIGSEGV", "SIGRTMIN+6", "signal 33": any number has a text. libc names no real-time signal; they are counted from the
// nearer end, as by `kill -l`.
std::string SignalText(int signal);

}  // namespace profagent
