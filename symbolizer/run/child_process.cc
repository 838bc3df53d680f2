#include "symbolizer/run/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "agent/base/process_stat.h"

namespace profagent {
namespace {

constexpr int kPassedOn[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                             SIGUSR2, SIGALRM, SIGTSTP, SIGCONT, SIGWINCH};

sigset_t HeldBack() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : kPassedOn) sigaddset(&set, signal);
  sigaddset(&set, SIGCHLD);
  return set;
}

pid_t ParentOf(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(stat), {});
  return static_cast<pid_t>(StatNumber(text, kStatParent));
}

bool IsInTreeOf(pid_t root, pid_t pid) {
  constexpr int kMaxDepth = 64;  // a chain that long is a loop made by reused pids
  for (int depth = 0; depth < kMaxDepth && pid > 1; ++depth) {
    if (pid == root) return true;
    pid = ParentOf(pid);
  }
  return false;
}

uint64_t NanosOf(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(time.tv_usec) * 1000;
}

// SI_USER, SI_QUEUE, SI_TKILL; the kernel's own codes (the terminal's driver) are positive.
bool SentByProcess(const siginfo_t& info) { return info.si_code <= 0; }

// The signal was held back, so the kernel did not stop us, and a shell's job control waits for that. By SIGTSTP and not by
// SIGSTOP: without a shell (an orphaned process group) the kernel discards it, for the command as for us.
void StopAsTold() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  raise(SIGTSTP);
  sigprocmask(SIG_UNBLOCK, &stop, nullptr);  // stops here
  sigprocmask(SIG_BLOCK, &stop, nullptr);
}

void PassOn(const siginfo_t& info, pid_t child) {
  // An alarm that was set before exec made it us (perl -e 'alarm 9; exec @ARGV') is kept by an exec, but not by our fork.
  const bool is_meant = SentByProcess(info) ? !IsInTreeOf(child, info.si_pid) : info.si_signo == SIGALRM;
  if (is_meant) kill(child, info.si_signo);
  if (info.si_signo == SIGTSTP) StopAsTold();
}

// Takes one of the signals that are held back, and waits for it if there is none yet.
class HeldBackSignals {
 public:
  explicit HeldBackSignals(LedgerWatch* watch)
      : watch_(watch), set_(HeldBack()), fd_(signalfd(-1, &set_, SFD_CLOEXEC)) {}
  ~HeldBackSignals() {
    if (fd_ >= 0) close(fd_);
  }
  HeldBackSignals(const HeldBackSignals&) = delete;
  HeldBackSignals& operator=(const HeldBackSignals&) = delete;

  // False: none, we were stopped and continued.
  bool Take(siginfo_t* info) {
    if (fd_ < 0) return sigwaitinfo(&set_, info) > 0;
    // The descriptor only says that there is one.
    pollfd ready[] = {{fd_, POLLIN, 0}, {watch_->fd(), POLLIN, 0}};
    do {
      if (poll(ready, 2, -1) < 0) return false;
      watch_->Note();
    } while ((ready[0].revents & POLLIN) == 0);
    const timespec at_once = {};
    return sigtimedwait(&set_, info, &at_once) > 0;
  }

 private:
  LedgerWatch* watch_;
  sigset_t set_;
  int fd_;
};

// What the signals were when we were started, which is what the command must find.
struct OriginalSignals {
  sigset_t mask;
  struct sigaction on_child;
  WriteSignals on_write;
};

[[noreturn]] void BecomeCommand(const std::string& program, char* const* arguments, char* const* environment,
                                const OriginalSignals& signals, int error_pipe) {
  sigaction(SIGCHLD, &signals.on_child, nullptr);
  sigaction(SIGPIPE, &signals.on_write.on_pipe, nullptr);
  sigaction(SIGXFSZ, &signals.on_write.on_file_size, nullptr);
  sigprocmask(SIG_SETMASK, &signals.mask, nullptr);
  environ = const_cast<char**>(environment);
  execvp(program.c_str(),
         arguments);  // with a slash in it no search, but a script without #! goes to /bin/sh
  const int code = errno;
  // A pipe takes four bytes whole; if not, the parent sees a command that exits with 126.
  if (write(error_pipe, &code, sizeof code) < 0) _exit(126);
  _exit(127);
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Error OwnFailure(const char* what, int code) { return Error::Of("cannot ", what, ": ", strerror(code)); }

// The file was there a moment ago; what the kernel does not find is what is named in it.
Error NotExecutable(const std::string& command, int code) {
  Error error =
      Error::Of(command, ": cannot be executed: ",
                code == ENOENT ? "the interpreter or loader that it asks for is not there" : strerror(code));
  error.code = code;
  return error;
}

}  // namespace

WriteSignals IgnoreWriteSignals() {
  struct sigaction ignored = {};
  ignored.sa_handler = SIG_IGN;
  WriteSignals before = {};
  sigaction(SIGPIPE, &ignored, &before.on_pipe);
  sigaction(SIGXFSZ, &ignored, &before.on_file_size);
  return before;
}

Result<ChildProcess> ChildProcess::Start(const std::string& program,
                                         const std::vector<std::string>& arguments,
                                         const std::vector<std::string>& environment,
                                         const WriteSignals& write_signals) {
  // An ignored SIGCHLD, which we may have inherited, would take the exit status from us.
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  OriginalSignals original = {};
  sigaction(SIGCHLD, &by_default, &original.on_child);
  original.on_write = write_signals;
  const sigset_t held_back = HeldBack();
  sigprocmask(SIG_BLOCK, &held_back, &original.mask);

  int error_pipe[2];
  if (pipe2(error_pipe, O_CLOEXEC) != 0) return OwnFailure("make a pipe", errno);
  std::vector<char*> argument_pointers = Pointers(arguments);
  std::vector<char*> environment_pointers = Pointers(environment);
  const pid_t pid = fork();
  if (pid < 0) return OwnFailure("start a process", errno);
  if (pid == 0) {
    close(error_pipe[0]);
    BecomeCommand(program, argument_pointers.data(), environment_pointers.data(), original, error_pipe[1]);
  }
  close(error_pipe[1]);
  int code = 0;
  ssize_t size;
  do {
    size = read(error_pipe[0], &code, sizeof code);  // ends without a byte when exec closes the pipe
  } while (size < 0 && errno == EINTR);
  close(error_pipe[0]);
  if (size == sizeof code) {
    waitpid(pid, nullptr, 0);
    return NotExecutable(arguments[0], code);
  }
  return ChildProcess(pid, original.mask);
}

int ChildProcess::Wait(LedgerWatch* watch) {
  HeldBackSignals signals(watch);
  for (;;) {
    // Not only after SIGCHLD: several of them arrive as one, and ours may have been an orphan's.
    int status = 0;
    rusage usage = {};
    for (pid_t ended; (ended = wait4(-1, &status, WNOHANG, &usage)) > 0;) {
      if (ended != pid_) continue;
      cpu_time_ = Nanos{NanosOf(usage.ru_utime) + NanosOf(usage.ru_stime)};
      return status;
    }
    siginfo_t info = {};
    if (!signals.Take(&info)) continue;
    if (info.si_signo == SIGINT && !SentByProcess(info)) interrupted_at_terminal_ = true;
    if (info.si_signo != SIGCHLD) PassOn(info, pid_);
  }
}

void ChildProcess::WaitForOrphans(LedgerWatch* watch) {
  HeldBackSignals signals(watch);
  for (;;) {
    pid_t ended;
    while ((ended = waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    if (ended < 0) return;  // ECHILD: nobody is left
    siginfo_t info = {};
    if (!signals.Take(&info)) continue;
    if (info.si_signo == SIGINT || info.si_signo == SIGTERM || info.si_signo == SIGHUP) return;
    if (info.si_signo == SIGTSTP) StopAsTold();
  }
}

void ChildProcess::ReleaseSignals() {
  // A ^C that ended the command may still be waiting for us too.
  const sigset_t held_back = HeldBack();
  const timespec at_once = {};
  siginfo_t info = {};
  while (sigtimedwait(&held_back, &info, &at_once) > 0) {
    if (info.si_signo == SIGINT && !SentByProcess(info)) interrupted_at_terminal_ = true;
  }
  sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
}

int ExitStatusOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) return 128 + WTERMSIG(wait_status);
  return WEXITSTATUS(wait_status);
}

void DieOfInterrupt() {
  signal(SIGINT, SIG_DFL);
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_UNBLOCK, &interrupt, nullptr);
  raise(SIGINT);
  _exit(128 + SIGINT);  // not reached
}

}  // namespace profagent
