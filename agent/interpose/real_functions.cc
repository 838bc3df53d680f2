#include "agent/interpose/real_functions.h"

#include <dlfcn.h>

#include <type_traits>

#include "agent/interpose/loaded_object.h"

namespace profagent {

constinit RealFunctions g_real_functions{};

// Two threads may do this at once: both write the same.
void ResolveRealFunctions() {
  RealFunctions& real = g_real_functions;
  auto find = [](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_NEXT, name));
  };
  find(real.pthread_create, "pthread_create");
  find(real.thrd_create, "thrd_create");
  find(real.pthread_exit, "pthread_exit");
  find(real.thrd_exit, "thrd_exit");
  find(real.pthread_setname_np, "pthread_setname_np");
  find(real.prctl, "prctl");
  find(real.dlclose, "dlclose");
  find(real.sigaction, "sigaction");
  find(real.signal, "signal");
  find(real.sysv_signal, "__sysv_signal");
  find(real.sigset, "sigset");
  find(real.sigignore, "sigignore");
  find(real.siginterrupt, "siginterrupt");
  real.signal_actions_are_libcs = IsLibcs(reinterpret_cast<const void*>(real.sigaction)) &&
                                  IsLibcs(reinterpret_cast<const void*>(real.signal));
  find(real.execve, "execve");
  find(real.execvpe, "execvpe");
  find(real.execveat, "execveat");
  find(real.fexecve, "fexecve");
  auto find_version = [&](auto& function, const char* name, const char* version) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(FindReal(name, version));
  };
  find_version(real.posix_spawn, "posix_spawn", "GLIBC_2.15");
  find_version(real.posix_spawnp, "posix_spawnp", "GLIBC_2.15");
  find_version(real.old_posix_spawn, "posix_spawn", kOldVersion);
  find_version(real.old_posix_spawnp, "posix_spawnp", kOldVersion);
  find(real._Fork, "_Fork");
  find(real.exit, "exit");
  find(real.daemon, "daemon");
  find(real.setrlimit, "setrlimit");
  find(real.prlimit, "prlimit");
  find(real.mlockall, "mlockall");
  find_version(real.timer_create, "timer_create", "GLIBC_2.3.3");
  find_version(real.old_timer_create, "timer_create", kOldVersion);
  find(real.monstartup, "__monstartup");
  find(real.moncontrol, "moncontrol");
  find(real.profil, "profil");
  find(real.sprofil, "sprofil");
  find(real.sigaltstack, "sigaltstack");
  find(real.sigprocmask, "sigprocmask");
  find(real.pthread_sigmask, "pthread_sigmask");
  find(real.sigpending, "sigpending");
  find(real.sigsuspend, "sigsuspend");
  find(real.sigtimedwait, "sigtimedwait");
  find(real.sigwait, "sigwait");
  find(real.sigwaitinfo, "sigwaitinfo");
  find(real.signalfd, "signalfd");
  find(real.ppoll, "ppoll");
  find(real.ppoll_chk, "__ppoll_chk");
  find(real.pselect, "pselect");
  find(real.epoll_pwait, "epoll_pwait");
  find(real.epoll_pwait2, "epoll_pwait2");
  real.resolved.store(true, std::memory_order_release);
}

void* FindReal(const char* name, const char* version) {
  void* found = dlsym(RTLD_NEXT, name);
  if (version == nullptr || found == nullptr) return found;
  void* asked_for = dlvsym(RTLD_NEXT, name, version);
  return asked_for != nullptr && ObjectAt(asked_for) == ObjectAt(found) ? asked_for : found;
}

}  // namespace profagent
