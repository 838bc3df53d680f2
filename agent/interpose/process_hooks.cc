#include "agent/interpose/process_hooks.h"

#include <alloca.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdlib>
#include <span>

#include "agent/base/lineage.h"
#include "agent/base/program_loader.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/signal_safe.h"
#include "agent/interpose/real_functions.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59  // Linux 5.11
#endif

namespace profagent {
namespace {

using ExecEnvironment = char* const*;

constinit std::atomic<const ProcessEvents*> g_events{nullptr};  // release: what it points to is filled

// More variables than this are passed on without the word.
constexpr size_t kMaxVariables = 4096;

// In which nobody may look at a program's file.
bool InSandbox() {
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  return events != nullptr && events->in_sandbox();
}

// The array is copied to the caller's stack. But a handler of crashes may have 4 KiB left of its alternate one, and Kubernetes gives
// a program hundreds of variables: then it gets pages of its own. (A vfork child that becomes another program leaves them behind.)
constexpr size_t kMaxOnAlternateStack = 64;

bool IsOnAlternateStack() {
  stack_t stack;
  return RawSyscall(SYS_sigaltstack, nullptr, &stack) == 0 && (stack.ss_flags & SS_ONSTACK) != 0;
}

// nullptr: not needed, or not to be had.
char** MapRoom(size_t count) {
  if (count <= kMaxOnAlternateStack || InSandbox() || !IsOnAlternateStack()) return nullptr;
  long pages = RawSyscall(SYS_mmap, nullptr, count * sizeof(char*), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return SyscallError(pages) == 0 ? reinterpret_cast<char**>(pages) : nullptr;
}

template <class Call>
int Execute(const ProgramFile& program, ExecEnvironment environment, Call call) {
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  size_t count = CountVariables(environment);
  size_t preload = PreloadSize(environment);
  std::span<char*> room;
  char** pages = nullptr;
  if (preload != 0 && count <= kMaxVariables) {
    pages = MapRoom(count + 2);
    room = {pages != nullptr ? pages : static_cast<char**>(alloca((count + 2) * sizeof(char*))), count + 2};
  }
  if (!room.empty() && !InSandbox()) {
    FateOfPreload fate = FateIn(program, environment);
    if (fate == FateOfPreload::kKilled)
      environment = WithoutPreload(environment, room, static_cast<char*>(alloca(preload)));
    // The word of the lineage is for our library only, which takes it out again.
    if (fate != FateOfPreload::kLoaded) room = {};
  }
  ExecWord word = events != nullptr ? events->before_exec() : ExecWord::kNone;
  if (!room.empty() && word != ExecWord::kNone)
    environment = WithLineage(environment, word == ExecWord::kFirst, room);
  int result = call(environment);
  int failed_with = errno;
  if (pages != nullptr) RawSyscall(SYS_munmap, pages, (count + 2) * sizeof(char*));
  if (events != nullptr) events->exec_failed();
  errno = failed_with;
  return result;
}

RealFunctions::PosixSpawn NextSpawn(const char* name) {
  return reinterpret_cast<RealFunctions::PosixSpawn>(dlsym(RTLD_NEXT, name));
}

// Its child is made inside libc, which calls none of our exec hooks. One function for all of them.
int Spawn(RealFunctions::PosixSpawn call, bool search, pid_t* pid, const char* path,
          const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes, char* const argv[],
          ExecEnvironment environment) {
  size_t count = CountVariables(environment);
  size_t preload = PreloadSize(environment);
  if (preload != 0 && count <= kMaxVariables && !InSandbox() &&
      FateIn(ProgramFile{AT_FDCWD, path, search}, environment) == FateOfPreload::kKilled) {
    std::span<char*> room(static_cast<char**>(alloca((count + 2) * sizeof(char*))), count + 2);
    environment = WithoutPreload(environment, room, static_cast<char*>(alloca(preload)));
  }
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  if (events == nullptr) return call(pid, path, actions, attributes, argv, environment);
  events->before_spawn();
  int result = call(pid, path, actions, attributes, argv, environment);
  events->after_spawn();
  return result;
}

// Before the call: of what is mapped by then, all counts.
void BeforeLimit(pid_t process, int resource, const struct rlimit64* limit) {
  if ((resource != RLIMIT_AS && resource != RLIMIT_DATA) || limit == nullptr) return;
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  if (events == nullptr || events->in_sandbox() || limit->rlim_cur == RLIM_INFINITY) return;
  ErrnoSaver keep;
  if (process == 0 || process == getpid()) events->before_limit(limit->rlim_cur, resource == RLIMIT_DATA);
}

// mlockall fills all that is mapped, the unused part of the ledger too: as if this were the limit.
constexpr uint64_t kSpaceToLock = uint64_t{256} << 20;

void BeforeLockingAll() {
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  if (events == nullptr || events->in_sandbox()) return;
  ErrnoSaver keep;
  events->before_limit(kSpaceToLock, false);
}

}  // namespace

void SetProcessEvents(const ProcessEvents* events) { g_events.store(events, std::memory_order_release); }

void Exit(int status) {
  if (const ProcessEvents* events = g_events.load(std::memory_order_acquire)) events->before_exit();
  for (;;) RawSyscall(SYS_exit_group, status);
}

int Execve(const char* path, char* const argv[], char* const envp[]) {
  return Execute(ProgramFile{AT_FDCWD, path, false}, envp,
                 [&](ExecEnvironment environment) { return Real().execve(path, argv, environment); });
}

int Execveat(int directory, const char* path, char* const argv[], char* const envp[], int flags) {
  return Execute(ProgramFile{directory, path, false}, envp, [&](ExecEnvironment environment) {
    return Real().execveat(directory, path, argv, environment, flags);
  });
}

bool IsSandboxPrctl(long option, long second, long third) {
  switch (static_cast<int>(option)) {
    case PR_SET_SECCOMP:
      return second == SECCOMP_MODE_STRICT || (second == SECCOMP_MODE_FILTER && third != 0);
    case PR_SET_SYSCALL_USER_DISPATCH:
      return second != 0;
    default:
      return false;
  }
}

bool IsSandboxSeccomp(long operation, long flags, long arguments) {
  switch (static_cast<unsigned>(operation)) {
    case SECCOMP_SET_MODE_STRICT:
      return static_cast<unsigned>(flags) == 0 && arguments == 0;
    case SECCOMP_SET_MODE_FILTER:
      return arguments != 0;
    default:
      return false;
  }
}

bool LeaveForSandbox() {
  const ProcessEvents* events = g_events.load(std::memory_order_acquire);
  return events != nullptr && events->before_sandbox();
}

void ComeBackFromSandbox() { g_events.load(std::memory_order_acquire)->sandbox_refused(); }

}  // namespace profagent

using profagent::ExecEnvironment;
using profagent::Execute;
using profagent::NextSpawn;
using profagent::ProgramFile;
using profagent::Real;
using profagent::Spawn;

// The arguments of an execl call, null pointer included, in an array on this function's own stack. A macro,
// because the array must live in the caller.
// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are names, which it declares
#define PROF_GATHER_ARGUMENTS(argv, first, list)                                             \
  va_list list;                                                                              \
  va_start(list, first);                                                                     \
  size_t list##_count = 1;                                                                   \
  for (const char* a = (first); a != nullptr; a = va_arg(list, const char*)) ++list##_count; \
  va_end(list);                                                                              \
  char** argv = static_cast<char**>(alloca(list##_count * sizeof(char*)));                   \
  va_start(list, first);                                                                     \
  argv[0] = const_cast<char*>(first);                                                        \
  for (size_t i = 1; i < list##_count; ++i) argv[i] = va_arg(list, char*)
// NOLINTEND(bugprone-macro-parentheses)

PROF_EXPORT int execve(const char* path, char* const argv[], char* const envp[]) {
  return profagent::Execve(path, argv, envp);
}

PROF_EXPORT int execv(const char* path, char* const argv[]) {
  return profagent::Execve(path, argv, __environ);
}

PROF_EXPORT int execvp(const char* file, char* const argv[]) {
  return Execute(ProgramFile{AT_FDCWD, file, true}, __environ,
                 [&](ExecEnvironment environment) { return Real().execvpe(file, argv, environment); });
}

PROF_EXPORT int execvpe(const char* file, char* const argv[], char* const envp[]) {
  return Execute(ProgramFile{AT_FDCWD, file, true}, envp,
                 [&](ExecEnvironment environment) { return Real().execvpe(file, argv, environment); });
}

PROF_EXPORT int execveat(int directory, const char* path, char* const argv[], char* const envp[], int flags) {
  return profagent::Execveat(directory, path, argv, envp, flags);
}

PROF_EXPORT int fexecve(int fd, char* const argv[], char* const envp[]) {
  return Execute(ProgramFile{fd, "", false}, envp,
                 [&](ExecEnvironment environment) { return Real().fexecve(fd, argv, environment); });
}

PROF_EXPORT int execl(const char* path, const char* arg, ...) {
  PROF_GATHER_ARGUMENTS(argv, arg, list);
  va_end(list);
  return profagent::Execve(path, argv, __environ);
}

PROF_EXPORT int execlp(const char* file, const char* arg, ...) {
  PROF_GATHER_ARGUMENTS(argv, arg, list);
  va_end(list);
  return Execute(ProgramFile{AT_FDCWD, file, true}, __environ,
                 [&](ExecEnvironment environment) { return Real().execvpe(file, argv, environment); });
}

PROF_EXPORT int execle(const char* path, const char* arg, ...) {
  PROF_GATHER_ARGUMENTS(argv, arg, list);
  char** envp = va_arg(list, char**);
  va_end(list);
  return profagent::Execve(path, argv, envp);
}

// The older version runs a script without a first line; the program calls the one that it was linked with.
#define PROF_DEFINE_SPAWN(ours, real, exported, search)                              \
  asm(".symver " #ours ", " exported);                                               \
  PROF_EXPORT __attribute__((used)) int ours(                                        \
      pid_t* pid, const char* program, const posix_spawn_file_actions_t* actions,    \
      const posix_spawnattr_t* attributes, char* const argv[], char* const envp[]) { \
    return Spawn(real, search, pid, program, actions, attributes, argv, envp);       \
  }
PROF_DEFINE_SPAWN(profagent_new_posix_spawn, Real().posix_spawn, "posix_spawn@@GLIBC_2.15", false)
PROF_DEFINE_SPAWN(profagent_new_posix_spawnp, Real().posix_spawnp, "posix_spawnp@@GLIBC_2.15", true)
PROF_DEFINE_SPAWN(profagent_old_posix_spawn, Real().old_posix_spawn, "posix_spawn@GLIBC_2.2.5", false)
PROF_DEFINE_SPAWN(profagent_old_posix_spawnp, Real().old_posix_spawnp, "posix_spawnp@GLIBC_2.2.5", true)
// Of glibc 2.39, and give a descriptor instead of a pid. A version that is not the default serves only who names it: where libc
// has none of them, a program's weak reference stays without. Looked for when it is called, and so is there: where it is not, dlsym
// would write a message on the program's heap.
PROF_DEFINE_SPAWN(profagent_pidfd_spawn, NextSpawn("pidfd_spawn"), "pidfd_spawn@GLIBC_2.39", false)
PROF_DEFINE_SPAWN(profagent_pidfd_spawnp, NextSpawn("pidfd_spawnp"), "pidfd_spawnp@GLIBC_2.39", true)
#undef PROF_DEFINE_SPAWN

PROF_EXPORT void exit(int status) noexcept {
  if (const auto* events = profagent::g_events.load(std::memory_order_acquire))
    events->before_exit_handlers();
  Real().exit(status);
  __builtin_unreachable();
}

PROF_EXPORT void _exit(int status) {
  profagent::Exit(status);
  __builtin_unreachable();
}

PROF_EXPORT void _Exit(int status) noexcept {
  profagent::Exit(status);
  __builtin_unreachable();
}

PROF_EXPORT pid_t _Fork() noexcept {
  const profagent::ProcessEvents* events = profagent::g_events.load(std::memory_order_acquire);
  if (events == nullptr) return Real()._Fork();
  events->before_fork();
  pid_t child = Real()._Fork();
  int result_errno = errno;
  if (child == 0) {
    events->after_fork_in_child();
  } else {
    events->after_fork_in_parent();
  }
  errno = result_errno;
  return child;
}

PROF_EXPORT int daemon(int nochdir, int noclose) noexcept {
  const profagent::ProcessEvents* events = profagent::g_events.load(std::memory_order_acquire);
  if (events == nullptr) return Real().daemon(nochdir, noclose);
  events->before_daemon();
  int result = Real().daemon(nochdir, noclose);
  int failed_with = errno;
  if (result != 0) events->daemon_failed();
  errno = failed_with;
  return result;
}

// Two names each, by which our headers would call one function, and whose arguments they promise to be there.
PROF_EXPORT int Setrlimit(int resource, const struct rlimit64* limit) noexcept __asm__("setrlimit");
PROF_EXPORT int Setrlimit(int resource, const struct rlimit64* limit) noexcept {
  profagent::BeforeLimit(0, resource, limit);
  return Real().setrlimit(resource, limit);
}
PROF_EXPORT int Setrlimit64(int, const struct rlimit64*) noexcept __asm__("setrlimit64")
    __attribute__((alias("setrlimit")));

PROF_EXPORT int Prlimit(pid_t, int, const struct rlimit64*, struct rlimit64*) noexcept __asm__("prlimit");
PROF_EXPORT int Prlimit(pid_t process, int resource, const struct rlimit64* limit,
                        struct rlimit64* old) noexcept {
  profagent::BeforeLimit(process, resource, limit);
  return Real().prlimit(process, resource, limit, old);
}
PROF_EXPORT int Prlimit64(pid_t, int, const struct rlimit64*, struct rlimit64*) noexcept __asm__("prlimit64")
    __attribute__((alias("prlimit")));

PROF_EXPORT int mlockall(int flags) noexcept {
  if ((flags & MCL_CURRENT) != 0) profagent::BeforeLockingAll();
  return Real().mlockall(flags);
}
