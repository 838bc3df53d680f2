// libc's own profiler, when it runs before the agent does.
//
// Context: `bootstrap`, one thread.
// Why:     the start code of a -pg program is called from the _init of every library in it, ours included, which comes
//          before our constructor. At exit libc puts back the disposition that it found, inside libc: SIG_DFL, while our
//          ticks still come (libraries' destructors run), and the program dies of one. So it pauses while the CPU capture
//          starts, and finds the agent's handler when it goes on: that is what it puts back then.
#pragma once

namespace profagent {

class GprofPaused {
 public:
  explicit GprofPaused(int cpu_signal);
  ~GprofPaused();
  GprofPaused(const GprofPaused&) = delete;
  GprofPaused& operator=(const GprofPaused&) = delete;

 private:
  bool paused_;
};

}  // namespace profagent
