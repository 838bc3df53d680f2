// Programs built with -pg: libc's own profiler puts its SIGPROF handler in place inside libc, past our sigaction.
//
// Context: `hook`; __monstartup is called before main, by the program's start code, and may be before the agent starts.
// So:      after each call the handler is looked at. libc's becomes the application's, and gets its ticks
//          from us.
#include "agent/interpose/gprof_hooks.h"

#include <signal.h>
#include <sys/profil.h>

#include "agent/base/errno_saver.h"
#include "agent/base/signal_safe.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/real_functions.h"

namespace profagent {
namespace {

constinit bool g_gmon_is_on = false;

void StandBeforeItAgain() {
  ErrnoSaver keep;
  g_virtual_signals.RepairIfReplaced(g_cpu_capture.signo());
}

}  // namespace

GprofPaused::GprofPaused(int cpu_signal) : paused_(g_gmon_is_on && cpu_signal == SIGPROF) {
  if (paused_) Real().moncontrol(0);
}

GprofPaused::~GprofPaused() {
  if (!paused_) return;
  Real().moncontrol(1);
  StandBeforeItAgain();
}

}  // namespace profagent

using profagent::Real;
using profagent::StandBeforeItAgain;

PROF_EXPORT void __monstartup(unsigned long low, unsigned long high) {
  Real().monstartup(low, high);
  profagent::g_gmon_is_on = true;
  StandBeforeItAgain();
}
PROF_EXPORT void monstartup(unsigned long low, unsigned long high) {
  Real().monstartup(low, high);
  profagent::g_gmon_is_on = true;
  StandBeforeItAgain();
}
PROF_EXPORT void moncontrol(int on) {
  Real().moncontrol(on);
  profagent::g_gmon_is_on = on != 0;
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
