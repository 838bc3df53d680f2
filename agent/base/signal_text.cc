#include "agent/base/signal_text.h"

#include <signal.h>

#include <cstring>

namespace profagent {

FixedText<20> SignalText(int signal) {
  FixedText<20> text;
  if (const char* name = sigabbrev_np(signal); name != nullptr)
    return text.Add("SIG", std::string_view(name));
  const int low = SIGRTMIN;  // calls, both of them
  const int high = SIGRTMAX;
  if (signal < low || signal > high) return text.Add("signal ", signal);
  if (signal == low) return text.Add("SIGRTMIN");
  if (signal == high) return text.Add("SIGRTMAX");
  return signal - low <= high - signal + 1 ? text.Add("SIGRTMIN+", signal - low)
                                           : text.Add("SIGRTMAX-", high - signal);
}

}  // namespace profagent
