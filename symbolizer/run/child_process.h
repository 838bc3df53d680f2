// Starts the command and waits for it, and is otherwise not there: what reaches us and was meant for the command
// reaches the command.
//
// Context:  `offline`, in a process with one thread.
// Terminal: the command stays in our process group, so that the terminal's signals (^C, ^\, ^Z, window size) and the
//           terminal itself reach it directly. We hold those signals back for ourselves and wait. On ^Z we stop as well,
//           so that the shell sees a stopped job.
// kill:     a signal that somebody sends to us (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP,
//           SIGCONT, SIGWINCH) is passed on; not one of the command's own tree, which meant its group, and not one of
//           the kernel, which the command got itself, but for SIGALRM: a timer was set for this process alone.
// Exactly as without us: the command's signal mask, ignored signals, descriptors and working directory.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/units.h"
#include "symbolizer/run/ledger_watch.h"

namespace profagent {

// What we write, and cannot, must not end us in place of the command, with its exit status and its profiles: from here on
// SIGPIPE and SIGXFSZ are ignored. What they did before, for the command.
struct WriteSignals {
  struct sigaction on_pipe, on_file_size;
};
WriteSignals IgnoreWriteSignals();

class ChildProcess {
 public:
  // `program` is the file, `arguments` its argv (with argv[0]), `environment` NAME=VALUE. While it lives our signals
  // are held back; ReleaseSignals gives them back.
  // An error: the program could not be executed, and code is the kernel's errno; or no process could be made, and it is 0.
  static Result<ChildProcess> Start(const std::string& program, const std::vector<std::string>& arguments,
                                    const std::vector<std::string>& environment,
                                    const WriteSignals& write_signals);

  // Until the command has ended; its wait status. Passes signals on meanwhile, and lets `watch` note what it sees.
  int Wait(LedgerWatch* watch);

  // Wait also for every process that the command left behind: they become our children (PR_SET_CHILD_SUBREAPER must be
  // set before Start). ^C and SIGTERM end the waiting.
  void WaitForOrphans(LedgerWatch* watch);

  // The signals' original mask: from here on they may end us. What arrived while the command ended is forgotten.
  void ReleaseSignals();

  pid_t pid() const { return pid_; }
  // Of the command and of all whom it waited for, when it has ended.
  Nanos cpu_time() const { return cpu_time_; }
  // ^C was pressed while we waited (complete after ReleaseSignals).
  bool interrupted_at_terminal() const { return interrupted_at_terminal_; }

 private:
  ChildProcess(pid_t pid, const sigset_t& original_mask) : pid_(pid), original_mask_(original_mask) {}

  pid_t pid_;
  sigset_t original_mask_;
  Nanos cpu_time_{};
  bool interrupted_at_terminal_ = false;
};

// The status for the shell: the command's own, or 128 + the signal it died of.
int ExitStatusOf(int wait_status);

// Dies of SIGINT, as the command did when somebody pressed ^C. A shell script or make goes on after a program that exits
// with 130, and stops after one that died of the signal; both see 130.
[[noreturn]] void DieOfInterrupt();

}  // namespace profagent
