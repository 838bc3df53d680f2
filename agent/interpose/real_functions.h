// The functions of libc (or of whoever else interposes them after us) that our hooks stand before.
//
// Context: Real() in `hook` and `bootstrap`. Constructors of other libraries may call a hook before our own
//          constructor ran; then the first of them looks the functions up. Not in `signal`: dlsym takes the
//          loader's lock.
// Missing: a function that this libc lacks is nullptr; its hook cannot have been called through a symbol that
//          never was.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <threads.h>
#include <time.h>

#include <atomic>

struct prof;  // <sys/profil.h>

namespace profagent {

struct RealFunctions {
  // threads
  int (*pthread_create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  int (*thrd_create)(thrd_t*, thrd_start_t, void*);
  void (*pthread_exit)(void*);
  void (*thrd_exit)(int);
  int (*pthread_setname_np)(pthread_t, const char*);
  int (*prctl)(int, ...);
  int (*dlclose)(void*);

  // actions of signals
  int (*sigaction)(int, const struct sigaction*, struct sigaction*);
  sighandler_t (*signal)(int, sighandler_t);
  sighandler_t (*sysv_signal)(int, sighandler_t);
  sighandler_t (*sigset)(int, sighandler_t);
  int (*sigignore)(int);
  int (*siginterrupt)(int, int);
  bool signal_actions_are_libcs;  // nobody else stands between

  // processes
  int (*execve)(const char*, char* const*, char* const*);
  int (*execvpe)(const char*, char* const*, char* const*);
  int (*execveat)(int, const char*, char* const*, char* const*, int);
  int (*fexecve)(int, char* const*, char* const*);
  using PosixSpawn = int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                             char* const*, char* const*);
  PosixSpawn posix_spawn;
  PosixSpawn posix_spawnp;
  PosixSpawn old_posix_spawn;
  PosixSpawn old_posix_spawnp;
  pid_t (*_Fork)();
  void (*exit)(int);
  int (*daemon)(int, int);
  int (*setrlimit)(int, const struct rlimit64*);
  int (*mlockall)(int);
  int (*prlimit)(pid_t, int, const struct rlimit64*, struct rlimit64*);
  int (*timer_create)(clockid_t, struct sigevent*, timer_t*);
  int (*old_timer_create)(clockid_t, struct sigevent*, timer_t*);  // writes an int

  // libc's own profiler, which sets its handler inside libc
  void (*monstartup)(unsigned long, unsigned long);
  void (*moncontrol)(int);
  int (*profil)(unsigned short*, size_t, size_t, unsigned int);
  int (*sprofil)(struct prof*, int, struct timeval*, unsigned int);

  int (*sigaltstack)(const stack_t*, stack_t*);

  // masks
  int (*sigprocmask)(int, const sigset_t*, sigset_t*);
  int (*pthread_sigmask)(int, const sigset_t*, sigset_t*);
  int (*sigpending)(sigset_t*);
  int (*sigsuspend)(const sigset_t*);
  int (*sigtimedwait)(const sigset_t*, siginfo_t*, const struct timespec*);
  int (*sigwait)(const sigset_t*, int*);
  int (*sigwaitinfo)(const sigset_t*, siginfo_t*);
  int (*signalfd)(int, const sigset_t*, int);
  int (*ppoll)(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*);
  int (*ppoll_chk)(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
  int (*pselect)(int, fd_set*, fd_set*, fd_set*, const struct timespec*, const sigset_t*);
  int (*epoll_pwait)(int, struct epoll_event*, int, int, const sigset_t*);
  int (*epoll_pwait2)(int, struct epoll_event*, int, const struct timespec*, const sigset_t*);

  std::atomic<bool> resolved;  // release: all of the above
};

extern constinit RealFunctions g_real_functions;

void ResolveRealFunctions();

// The first version that most functions of libc have.
inline constexpr const char* kOldVersion = "GLIBC_2.2.5";

// What stands behind us under this name. `version`: for a function that libc has in several; nullptr: of one only.
// Whoever comes first after us gives it, in the version that is asked for if it has that: another interposer may have none, and
// dlvsym would look past it, and of libc's two dlsym gave the older one before glibc 2.36, since then the newer.
void* FindReal(const char* name, const char* version);

inline const RealFunctions& Real() {
  if (!g_real_functions.resolved.load(std::memory_order_acquire)) [[unlikely]]
    ResolveRealFunctions();
  return g_real_functions;
}

}  // namespace profagent
