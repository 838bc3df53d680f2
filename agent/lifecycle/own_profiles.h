// The profiles that a process writes of itself: at its end, before it becomes another program, when a signal asks for a dump.
//
// Context: Write in `hook`, in exit handlers and in the handlers of fatal signals, all signals blocked; the writing itself on
//          OwnStack (`dump`), and so WriteDump, by who has that stack already.
// Failure: a fault of the agent's own costs the profiles and turns the agent off; the program goes on, or dies, as it would have.
#pragma once

#include <cstdint>

#include "agent/base/profile_names.h"
#include "agent/lifecycle/own_stack.h"
#include "agent/lifecycle/profile_writer.h"
#include "agent/lifecycle/wanted_profiles.h"

namespace profagent {

// A writer that takes longer than this is not waited for by a thread that wants to die.
inline constexpr int kPatienceMillis = 10'000;

struct ThisProcess {
  uint32_t pid = 0;
  bool first = false;  // of all processes that got the same environment
};

class OwnProfiles {
 public:
  OwnStack& stack() { return stack_; }

  // All that is wanted at the end of this process or before it becomes another program. Of one that may go on after all it is
  // remembered for TakeBack. A dump of another thread may be on the stack: the end of the process waits for it, as long as it does
  // for a writer.
  void Write(const ThisProcess& process, WrittenAt when, Afterwards afterwards);
  // The process goes on and will write all of its samples itself.
  void TakeBack();

  void WriteDump(const ThisProcess& process);
  void GiveUp();  // after a fault on the stack

  // In a forked child: what its parent wrote, or was writing, is the parent's.
  void BeginAnew();

 private:
  void WriteAll(const ThisProcess& process, WrittenAt when, Afterwards afterwards);
  void ForgetWhatWasLeft();

  uint32_t dumps_ = 0;  // written so far; only who is on the stack counts
  OwnStack stack_;
  // What was written before an exec, a daemon or a sandbox that may still fail. Last: seldom touched, and large.
  bool any_left_behind_ = false;
  PathText left_behind_[kWantedProfiles];
};

}  // namespace profagent
