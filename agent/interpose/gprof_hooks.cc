// Programs built with -pg: libc's own profiler puts its SIGPROF handler in place inside libc, past our
// sigaction.
//
// Context: `hook`; __monstartup is called before main, by the program's start code.
// So:      after each call the handler is looked at. libc's becomes the application's, and gets its ticks
//          from us.
#include <sys/profil.h>

#include "agent/base/errno_saver.h"
#include "agent/base/signal_safe.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/real_functions.h"

namespace profagent {
namespace {

void StandBeforeItAgain() {
  ErrnoSaver keep;
  g_virtual_signals.RepairIfReplaced(g_cpu_capture.signo());
}

}  // namespace
}  // namespace profagent

using profagent::Real;
using profagent::StandBeforeItAgain;

PROF_EXPORT void __monstartup(unsigned long low, unsigned long high) {
  Real().monstartup(low, high);
  StandBeforeItAgain();
}
PROF_EXPORT void monstartup(unsigned long low, unsigned long high) {
  Real().monstartup(low, high);
  StandBeforeItAgain();
}
PROF_EXPORT void moncontrol(int on) {
  Real().moncontrol(on);
  StandBeforeItAgain();
}
PROF_EXPORT int profil(unsigned short* buffer, size_t size, size_t offset, unsigned int scale) noexcept {
  int result = Real().profil(buffer, size, offset, scale);
  StandBeforeItAgain();
  return result;
}
PROF_EXPORT int sprofil(struct prof* regions, int count, struct timeval* period,
                        unsigned int flags) noexcept {
  int result = Real().sprofil(regions, count, period, flags);
  StandBeforeItAgain();
  return result;
}
