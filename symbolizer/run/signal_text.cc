#include "symbolizer/run/signal_text.h"

#include <signal.h>

#include <cstring>

namespace profagent {

std::string SignalText(int signal) {
  if (const char* name = sigabbrev_np(signal); name != nullptr) return std::string("SIG") + name;
  const int low = SIGRTMIN;  // calls, both of them
  const int high = SIGRTMAX;
  if (signal < low || signal > high) return "signal " + std::to_string(signal);
  if (signal == low) return "SIGRTMIN";
  if (signal == high) return "SIGRTMAX";
  return signal - low <= high - signal + 1 ? "SIGRTMIN+" + std::to_string(signal - low)
                                           : "SIGRTMAX-" + std::to_string(high - signal);
}

}  // namespace profagent
