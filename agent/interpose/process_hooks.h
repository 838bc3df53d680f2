// The ways in which a process becomes another program or ends without exit handlers: exec*, fexecve, _exit, _Exit; _Fork,
// which runs no fork handlers; the limits that it sets itself, and its locking of all its memory; and the ways into a sandbox.
//
// Context: `hook`; in a vfork child too, where everything written lands in the parent's memory: the events must
//          tell by the pid and do nothing there.
// exec:    all of them end in execve, execvpe, execveat or fexecve of libc. The variadic ones gather their arguments on the
//          caller's stack, as libc does. The new program's environment is the caller's plus the word of
//          base/lineage.h, when it preloads us at all.
// spawn:   is no exec of ours (libc does it in the child); only a program that would die of our preload is not handed it.
// sandbox: a seccomp filter, its strict mode, and the dispatch of system calls to a signal. What a filter lets pass is not
//          looked at: any may kill. In it an exec is the bare call, whose environment is the caller's: who is first then, the
//          new program tells by its parent.
// Idle:    with no events set each hook is the bare call.
#pragma once

#include <cstdint>

#include "agent/base/errno_saver.h"

namespace profagent {

enum class ExecWord { kNone, kFirst, kLater };  // what the next program is told of its lineage

// Set once by lifecycle, before main; never changed while another thread can run. Any may interrupt any.
struct ProcessEvents {
  // The process image may be replaced now: no timer may fire, no CPU signal may stay pending. kFirst: this
  // process is the first of its lineage (and not a vfork child).
  ExecWord (*before_exec)();
  void (*exec_failed)();
  // Around posix_spawn, in the parent: the child gets its mask and what it ignores.
  void (*before_spawn)();
  void (*after_spawn)();
  // daemon(3) forks, and this process, the parent, leaves from inside libc: nothing of ours will run in it again, unless it failed.
  void (*before_daemon)();
  void (*daemon_failed)();
  // exit. Before glibc 2.41 a second thread in exit finds the handlers taken, and ends the process under the first.
  void (*before_exit_handlers)();
  void (*before_exit)();  // _exit and _Exit
  void (*before_fork)();  // around _Fork; fork has its handlers
  void (*after_fork_in_parent)();
  void (*after_fork_in_child)();
  // The process limits its own address space; `data`: only that of data. Or it locks all that it has.
  void (*before_limit)(uint64_t bytes, bool data);
  // After the next system call every other may kill, for the rest of the process's life. True: sandbox_refused must follow
  // where that call fails.
  bool (*before_sandbox)();
  void (*sandbox_refused)();
  bool (*in_sandbox)();
};

void SetProcessEvents(const ProcessEvents* events);

// What libc's functions of these names do; for who uses its syscall instead.
int Execve(const char* path, char* const argv[], char* const envp[]);
int Execveat(int directory, const char* path, char* const argv[], char* const envp[], int flags);
[[noreturn]] void Exit(int status);

// Whether prctl or seccomp with these arguments shuts the process up, unless it fails. A filter of null is a question that
// libseccomp asks about the kernel, and so is strict mode with flags.
bool IsSandboxPrctl(long option, long second, long third);
bool IsSandboxSeccomp(long operation, long flags, long arguments);

bool LeaveForSandbox();
void ComeBackFromSandbox();

// `refuses`: of the call's result.
template <class Call, class Refuses>
long EnterSandbox(Call call, Refuses refuses) {
  bool left = LeaveForSandbox();
  long result = call();
  if (left && refuses(result)) {
    ErrnoSaver keep;
    ComeBackFromSandbox();
  }
  return result;
}

}  // namespace profagent
