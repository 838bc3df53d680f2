// What a signal is called in messages.
//
// Context: all but `signal`.
#pragma once

#include "agent/base/text.h"

namespace profagent {

// "SIGSEGV", "SIGRTMIN+6", "signal 33": any number has a text, and options take it. libc names no real-time signal; they are
// counted from the nearer end, as by `kill -l`.
FixedText<20> SignalText(int signal);

}  // namespace profagent
