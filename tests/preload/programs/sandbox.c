// sandbox HOW MODE: works, puts itself into a sandbox that kills at any system call it did not ask for, works on, exits with 7.
// HOW is the way in: strict, prctl, seccomp, sys_prctl, tsync, libseccomp, dispatch.
// MODE, what it does in there: return, _exit, threads, fork, signal, actions. Strict mode and dispatch allow none of them.
// sandbox HOW raw_fork: a child made by a bare fork does it (bwrap, minijail); its parent works on.
// sandbox refused HOW: asks for what is no sandbox (probe), or is refused (by several threads: at_once), and works on with its threads.
// The filters leave out rt_sigreturn where they can: not even a handler that does nothing may run.
#include <dlfcn.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "tests/preload/programs/program.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

WORK(work_before)
WORK(work_inside)
WORK(work_in_thread)
WORK(work_after_refusal)

// Of the end, of locks, of memory, of threads.
static const int kAllowed[] = {
    SYS_read,  SYS_write,           SYS_exit,     SYS_exit_group,     SYS_futex,         SYS_brk,
    SYS_mmap,  SYS_munmap,          SYS_mprotect, SYS_madvise,        SYS_clock_gettime, SYS_clone3,
    SYS_clone, SYS_set_robust_list, SYS_rseq,     SYS_rt_sigprocmask, SYS_sched_yield};
enum { kCount = sizeof kAllowed / sizeof *kAllowed };

static char g_selector = 0;  // SYSCALL_DISPATCH_FILTER_ALLOW
static atomic_int g_inside = 0;
static atomic_int g_ready = 0;
static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;

static void OnDispatched(int signo) {
  g_selector = 0;
  _exit(97);
}

static int MoreAllowed(const char* mode) {
  if (Is(mode, "fork")) return SYS_wait4;
  if (Is(mode, "signal")) return SYS_rt_sigreturn;
  return SYS_rt_sigaction;
}

// Threads need masks; without them not even those.
static bool IsAllowed(int number, const char* mode) {
  bool masks = Is(mode, "threads") || Is(mode, "fork") || Is(mode, "signal");
  return number != SYS_rt_sigprocmask || masks;
}

// With what `mode` needs beside the others.
static struct sock_fprog Filter(const char* mode) {
  static struct sock_filter filter[2 * kCount + 16];
  unsigned short size = 0;
  filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i <= kCount; ++i) {
    int number = i < kCount ? kAllowed[i] : MoreAllowed(mode);
    if (!IsAllowed(number, mode)) continue;
    filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1);
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  return (struct sock_fprog){size, filter};
}

// As programs that link it do. The numbers are those of <seccomp.h>.
static void EnterByLibseccomp(const char* mode) {
  void* library = dlopen("libseccomp.so.2", RTLD_NOW);
  REQUIRE(library != NULL);
  void* (*init)(uint32_t) = (void* (*)(uint32_t))dlsym(library, "seccomp_init");
  int (*add)(void*, uint32_t, int, unsigned) =
      (int (*)(void*, uint32_t, int, unsigned))dlsym(library, "seccomp_rule_add_array");
  int (*load)(const void*) = (int (*)(const void*))dlsym(library, "seccomp_load");
  void* filter = init(SECCOMP_RET_KILL_PROCESS);
  for (int i = 0; i <= kCount; ++i) {
    int number = i < kCount ? kAllowed[i] : MoreAllowed(mode);
    if (IsAllowed(number, mode)) REQUIRE(add(filter, SECCOMP_RET_ALLOW, number, 0) == 0);
  }
  REQUIRE(load(filter) == 0);
}

static void Enter(const char* how, const char* mode) {
  if (Is(how, "strict")) {
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    return;
  }
  if (Is(how, "dispatch")) {
    struct sigaction action = {.sa_handler = OnDispatched};
    REQUIRE(sigaction(SIGSYS, &action, NULL) == 0);
    REQUIRE(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &g_selector) == 0);
    g_selector = 1;
    return;
  }
  if (Is(how, "libseccomp")) {
    EnterByLibseccomp(mode);
    return;
  }
  struct sock_fprog program = Filter(mode);
  REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (Is(how, "prctl")) REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  if (Is(how, "sys_prctl"))
    REQUIRE(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
  if (Is(how, "seccomp")) REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
  if (Is(how, "tsync")) {
    REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
  }
}

static void* WorkInThread(void* unused) {
  atomic_fetch_add(&g_ready, 1);
  do {
    work_in_thread(20);
    for (int i = 0; i < 10; ++i) {
      void* volatile block = malloc(200000);
      free(block);
    }
    pthread_mutex_lock(&g_mutex);
    pthread_mutex_unlock(&g_mutex);
  } while (!atomic_load(&g_inside));
  work_in_thread(100);
  return unused;
}

static void OnSignal(int signo) {}

static void Inside(void) {
  work_inside(200);
  void* blocks[1000];
  for (int i = 0; i < 1000; ++i) REQUIRE((blocks[i] = malloc(10000)) != NULL);
  for (int i = 0; i < 1000; ++i) free(blocks[i]);
  Say("inside\n");
}

static void* AskInVain(void* unused) {
  struct sock_fprog none = {0, NULL};
  for (int i = 0; i < 3; ++i)
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &none) == -1 && errno == EINVAL);
  return unused;
}

static int Refused(const char* how) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, WorkInThread, NULL) == 0);
  work_before(200);
  struct sock_fprog none = {0, NULL};
  if (Is(how, "probe")) {
    for (int i = 0; i < 10; ++i) {
      REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EFAULT);
      REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL) == -1 &&
              errno == EFAULT);
      REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 && errno == EINVAL);
      REQUIRE(syscall(SYS_seccomp, 12345, 0, NULL) == -1 && errno == EINVAL);
      REQUIRE(prctl(PR_GET_SECCOMP) == 0);
    }
  }
  for (int i = 0; Is(how, "refused") && i < 3; ++i) {
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 1) == -1 && errno == EFAULT);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &none) == -1 && errno == EINVAL);
    REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &none) == -1 && errno == EINVAL);
    REQUIRE(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &none, 0, 0) == -1 && errno == EINVAL);
    REQUIRE(prctl(PR_SET_SYSCALL_USER_DISPATCH, 5, 0, 0, 0) == -1 && errno == EINVAL);
  }
  if (Is(how, "at_once")) {
    time_t before = time(NULL);
    pthread_t others[4];
    for (int i = 0; i < 4; ++i) REQUIRE(pthread_create(&others[i], NULL, AskInVain, NULL) == 0);
    for (int i = 0; i < 4; ++i) REQUIRE(pthread_join(others[i], NULL) == 0);
    REQUIRE(time(NULL) - before < 5);
  }
  work_after_refusal(300);
  atomic_store(&g_inside, 1);
  REQUIRE(pthread_join(thread, NULL) == 0);
  return 7;
}

static int RawFork(const char* how) {
  work_before(200);
  void* volatile block = malloc(1);  // the first one asks the kernel for random bytes
  free(block);
  pid_t child = (pid_t)syscall(SYS_fork);
  if (child == 0) {
    Enter(how, "return");
    Inside();
    exit(3);
  }
  ExpectExit(child, 3);
  work_after_refusal(100);
  return 7;
}

static void* EnterInThread(void* how) {
  Enter(how, "return");
  atomic_store(&g_inside, 1);
  while (true) SPIN();
  return NULL;
}

// Children that are forked while a thread is on its way into a sandbox, into which they go, too.
static int ForkMeanwhile(char* how) {
  enum { kMost = 400 };
  pid_t children[kMost];
  int count = 0;
  void* kept[400];
  for (int i = 0; i < 400; ++i) REQUIRE((kept[i] = malloc(10000)) != NULL);
  work_before(200);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, EnterInThread, how) == 0);
  for (; !atomic_load(&g_inside) && count < kMost; ++count) {
    pid_t child = fork();
    if (child == 0) {
      time_t before = time(NULL);
      Enter(how, "return");
      for (int i = 0; i < 400; ++i) free(kept[i]);
      exit(time(NULL) - before < 5 ? 3 : 4);
    }
    children[count] = child;
  }
  for (int i = 0; i < count; ++i) ExpectExit(children[i], 3);
  return 7;
}

int main(int argc, char** argv) {
  REQUIRE(argc == 3);
  const char* how = argv[1];
  const char* mode = argv[2];
  if (Is(how, "refused")) return Refused(mode);
  if (Is(mode, "raw_fork")) return RawFork(how);
  if (Is(mode, "fork_meanwhile")) return ForkMeanwhile(argv[1]);
  bool threads = Is(mode, "threads");
  pthread_t running[3];
  for (int i = 0; threads && i < 2; ++i) REQUIRE(pthread_create(&running[i], NULL, WorkInThread, NULL) == 0);
  while (threads && atomic_load(&g_ready) < 2) sched_yield();
  void* kept[400];
  for (int i = 0; i < 400; ++i) REQUIRE((kept[i] = malloc(10000)) != NULL);
  work_before(200);
  // Just begun when the door shuts.
  if (threads) REQUIRE(pthread_create(&running[2], NULL, WorkInThread, NULL) == 0);
  Enter(how, mode);
  if (Is(how, "strict") || Is(how, "dispatch")) {
    for (int i = 0; i < 3000; ++i) SPIN();
    if (Is(how, "dispatch")) {
      g_selector = 0;
      return 7;
    }
    Say("inside\n");
    syscall(SYS_exit, 7);
  }
  Inside();
  for (int i = 0; i < 400; ++i) free(kept[i]);
  if (threads) {
    atomic_store(&g_inside, 1);
    pthread_t later;
    REQUIRE(pthread_create(&later, NULL, WorkInThread, NULL) == 0);
    REQUIRE(pthread_join(later, NULL) == 0);
    for (int i = 0; i < 3; ++i) REQUIRE(pthread_join(running[i], NULL) == 0);
  }
  if (Is(mode, "fork")) {
    pid_t child = fork();
    if (child == 0) {
      Inside();
      exit(3);
    }
    ExpectExit(child, 3);
  }
  if (Is(mode, "signal")) {
    Say("ready\n");
    while (true) SPIN();
  }
  if (Is(mode, "actions")) {
    struct sigaction action = {.sa_handler = OnSignal};
    struct sigaction old;
    for (int signo = 1; signo < 32; ++signo) {
      if (signo == SIGKILL || signo == SIGSTOP) continue;
      REQUIRE(sigaction(signo, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
      REQUIRE(sigaction(signo, &action, &old) == 0 && old.sa_handler == SIG_DFL);
      REQUIRE(sigaction(signo, NULL, &old) == 0 && old.sa_handler == OnSignal);
      REQUIRE(signal(signo, SIG_DFL) == OnSignal);
    }
  }
  if (Is(mode, "_exit")) _exit(7);
  return 7;
}
