// Programs that use signals themselves, SIGPROF included. Each prints what it saw; the harness runs it with and without
// the agent.
#include <linux/io_uring.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/signalfd.h>
#include <sys/time.h>

#include "tests/preload/programs/program.h"

WORK(signal_work)
WORK(thread_work)

static volatile sig_atomic_t g_count;
static void Count(int number) { ++g_count; }

static void CountAgain(int number) { g_count += 2; }

static void* SpinForEver(void* unused) {
  for (;;) {
    signal_work(1);
  }
  return unused;
}

static volatile sig_atomic_t g_bad_info;
static void CountInfo(int number, siginfo_t* info, void* context) {
  ++g_count;
  if (info == NULL || context == NULL || info->si_signo != number) g_bad_info = 1;
}

// Ticks come meanwhile, and wait where its mask holds them: until it returns.
static void CountAndWork(int number) {
  thread_work(20);
  ++g_count;
}

// Waits that only a handler ends.
static const char* const kWaits[] = {"poll", "ppoll", "pause", "nanosleep", "sigsuspend"};
static int Wait(const char* how) {
  const struct timespec minute = {60, 0};
  sigset_t none;
  sigemptyset(&none);
  if (Is(how, "poll")) return poll(NULL, 0, 60000);
  if (Is(how, "ppoll")) return ppoll(NULL, 0, &minute, &none);
  if (Is(how, "pause")) return pause();
  if (Is(how, "nanosleep")) return nanosleep(&minute, NULL);
  return sigsuspend(&none);
}

static void EndWaits(const char* set_by, int signo) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  for (size_t i = 0; i < sizeof kWaits / sizeof *kWaits; ++i) {
    struct sigaction action = {.sa_handler = CountAndWork};
    sigfillset(&action.sa_mask);
    if (Is(set_by, "sigaction")) {
      REQUIRE(sigaction(signo, &action, NULL) == 0);
    } else if (Is(set_by, "signal")) {
      REQUIRE(signal(signo, CountAndWork) != SIG_ERR && siginterrupt(signo, 1) == 0);
    } else {
      REQUIRE(sysv_signal(signo, CountAndWork) != SIG_ERR);
    }
    const struct itimerspec once = {{0, 0}, {0, 20000000}};
    REQUIRE(timer_settime(timer, 0, &once, NULL) == 0);
    g_count = 0;
    int result = Wait(kWaits[i]);
    printf("%s: %d, errno %d, %d\n", kWaits[i], result, errno, g_count);
  }
  struct sigaction left;
  REQUIRE(sigaction(signo, NULL, &left) == 0);
  printf("flags %x, %s\n", (unsigned)left.sa_flags, left.sa_handler == CountAndWork ? "handler" : "default");
  REQUIRE(sigaction(0, NULL, &left) == -1 && errno == EINVAL && sigaction(65, NULL, &left) == -1);
  REQUIRE(sigaction(32, NULL, &left) == -1 && signal(33, CountAndWork) == SIG_ERR);
  REQUIRE(signal(SIGKILL, CountAndWork) == SIG_ERR && errno == EINVAL && siginterrupt(1000, 1) == -1);
  errno = 0;
  REQUIRE(siginterrupt(SIGKILL, 1) == -1 && errno == EINVAL);
  // sigset takes SIG_ERR for the address of a handler.
  REQUIRE(sigset(signo, SIG_ERR) != SIG_ERR && sigaction(signo, NULL, &left) == 0 &&
          left.sa_handler == SIG_ERR);
  REQUIRE(sigset(signo, SIG_DFL) == SIG_ERR && sigaction(signo, NULL, &left) == 0 &&
          left.sa_handler == SIG_DFL);
}

// What a vfork child sets is its own, though its memory is its parent's.
static void SetInVforkChild(void) {
  static const int kSignals[] = {SIGPROF, SIGTERM, SIGUSR2, SIGPIPE, SIGURG, SIGCHLD};
  enum { kCount = sizeof kSignals / sizeof *kSignals };
  signal(SIGPROF, Count);
  signal(SIGTERM, Count);
  sysv_signal(SIGUSR2, Count);
  signal(SIGPIPE, SIG_IGN);
  pid_t child = vfork();
  if (child == 0) {
    struct sigaction seen;
    if (sigaction(SIGPROF, NULL, &seen) != 0 || seen.sa_handler != Count) _exit(1);
    if (signal(SIGPIPE, SIG_DFL) != SIG_IGN || signal(SIGPIPE, SIG_DFL) != SIG_DFL) _exit(2);
    for (int i = 0; i < kCount; ++i) signal(kSignals[i], SIG_DFL);
    if (sigaction(SIGTERM, NULL, &seen) != 0 || seen.sa_handler != SIG_DFL) _exit(3);
    signal(SIGUSR2, SIG_IGN);
    execl("/bin/sh", "sh", "-c", "grep -E '^Sig(Ign|Cgt)' /proc/self/status", (char*)NULL);
    _exit(4);
  }
  ExpectExit(child, 0);
  for (int i = 0; i < kCount; ++i) {
    struct sigaction seen;
    REQUIRE(sigaction(kSignals[i], NULL, &seen) == 0);
    printf("%d: %s\n", kSignals[i],
           seen.sa_handler == Count     ? "handler"
           : seen.sa_handler == SIG_IGN ? "ignored"
                                        : "default");
  }
  raise(SIGPROF);
  raise(SIGTERM);
  raise(SIGUSR2);
  printf("%d\n", (int)g_count);
  signal_work(200);
}

static volatile int g_stop;
static void* WorkUntilStopped(void* unused) {
  while (!g_stop) thread_work(10);
  return NULL;
}

static pthread_t StartWorker(void) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, WorkUntilStopped, NULL) == 0);
  return thread;
}

static void SetProfTimer(long micros) {
  struct itimerval interval = {{0, micros}, {0, micros}};
  REQUIRE(setitimer(ITIMER_PROF, &interval, NULL) == 0);
}

// What the kernel calls a struct sigaction.
typedef struct {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)(void);
  unsigned long mask;
} KernelAction;

void Restorer(void);
__asm__(
    ".text\n.type Restorer, @function\nRestorer:\n  mov $15, %eax\n  syscall\n.size Restorer, . - "
    "Restorer\n");

static bool IsSame(const KernelAction* a, const KernelAction* b) {
  return a->handler == b->handler && a->flags == b->flags && a->restorer == b->restorer && a->mask == b->mask;
}

static void ActByLibcsSyscall(int signo) {
  const KernelAction none = {0};
  const KernelAction counts = {Count, 0x04000000 | SA_RESTART, Restorer, 1UL << (SIGUSR1 - 1)};
  KernelAction old = counts;
  REQUIRE(syscall(SYS_rt_sigaction, signo, NULL, &old, 8) == 0 && IsSame(&old, &none));
  REQUIRE(syscall(SYS_rt_sigaction, signo, &counts, &old, 8) == 0 && IsSame(&old, &none));
  REQUIRE(syscall(SYS_rt_sigaction, signo, NULL, &old, 8) == 0 && IsSame(&old, &counts));
  raise(signo);
  struct sigaction same;
  REQUIRE(sigaction(signo, NULL, &same) == 0 && same.sa_handler == Count &&
          same.sa_flags == (int)counts.flags);
  REQUIRE(sigaction(signo, &same, NULL) == 0);
  raise(signo);
  KernelAction both = none;
  REQUIRE(syscall(SYS_rt_sigaction, signo, &both, &both, 8) == 0 && both.handler == Count);
  both = counts;
  errno = 0;
  REQUIRE(syscall(SYS_rt_sigaction, signo, &both, &both, 8) == 0 && IsSame(&both, &none) && errno == 0);
  REQUIRE(syscall(SYS_rt_sigaction, signo, &none, NULL, 16) == -1 && errno == EINVAL);
  REQUIRE(syscall(SYS_rt_sigaction, signo, 1, NULL, 8) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_rt_sigaction, signo, NULL, 1, 8) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_rt_sigaction, signo, NULL, &old, 8) == 0 && IsSame(&old, &counts));
}

// As qemu's user mode enters handlers: eight bytes beside.
__attribute__((used)) static void* g_handler;
void MisalignedEntry(int signo);
asm("MisalignedEntry: call *g_handler(%rip)\n  ret");

static void ActPastLibc(int signo, const KernelAction* action, KernelAction* old) {
  REQUIRE(RawSystemCall(SYS_rt_sigaction, signo, (long)action, (long)old, 8) == 0);
}

static void WorkMisaligned(void) {
  KernelAction agents, misaligned;
  ActPastLibc(SIGPROF, NULL, &agents);
  misaligned = agents;
  g_handler = (void*)agents.handler;
  misaligned.handler = MisalignedEntry;
  ActPastLibc(SIGPROF, &misaligned, NULL);
  thread_work(300);
  ActPastLibc(SIGPROF, &agents, NULL);
}

static atomic_int g_asked;
static void* SendWhenAsked(void* to) {
  for (;;) {
    int asked = 1;
    if (atomic_compare_exchange_strong(&g_asked, &asked, 0)) pthread_kill(*(pthread_t*)to, SIGUSR1);
    if (asked == -1) return NULL;
    sched_yield();
  }
}

static void RaiseAnother(int number) {
  raise(SIGUSR1);
  printf("%d %d\n", number, g_count);
}

// A signal that is blocked but in the call, and so in a handler that comes then.
static void SuspendOnce(void) {
  struct sigaction once = {.sa_handler = RaiseAnother, .sa_flags = SA_RESETHAND};
  sigset_t both;
  sigset_t none;
  sigemptyset(&none);
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGALRM);
  sigprocmask(SIG_BLOCK, &both, NULL);
  signal(SIGUSR1, Count);
  for (int with_mask = 0; with_mask < 2; ++with_mask) {
    if (with_mask) sigaddset(&once.sa_mask, SIGUSR1);
    sigaction(SIGALRM, &once, NULL);
    raise(SIGALRM);
    sigsuspend(&none);
    printf("after: %d\n", g_count);
  }
}

static pthread_t g_lower;
static atomic_bool g_lower_is_ready;

// Two threads of real-time priorities on one processor, each of which sets the same handler again and again. 77: not allowed.
static void BecomeRealTime(int priority) {
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(sched_getcpu(), &first);
  if (priority > 1) {
    REQUIRE(pthread_getaffinity_np(g_lower, sizeof first, &first) == 0);
  }
  REQUIRE(sched_setaffinity(0, sizeof first, &first) == 0);
  struct sched_param parameter = {.sched_priority = priority};
  if (sched_setscheduler(0, SCHED_FIFO, &parameter) != 0) _exit(77);
}
static void* SetAsLower(void* signo) {
  BecomeRealTime(1);
  atomic_store(&g_lower_is_ready, true);
  while (!g_stop) signal((int)(intptr_t)signo, Count);
  return NULL;
}
static void* SetAsHigher(void* signo) {
  BecomeRealTime(2);
  for (int i = 0; i < 3000; ++i) {
    struct timespec nap = {0, 50000};
    nanosleep(&nap, NULL);
    signal((int)(intptr_t)signo, Count);
  }
  g_stop = 1;
  return NULL;
}
static void MeetAtOneHandler(int signo) {
  pthread_t higher;
  void* argument = (void*)(intptr_t)signo;
  REQUIRE(pthread_create(&g_lower, NULL, SetAsLower, argument) == 0);
  while (!atomic_load(&g_lower_is_ready)) usleep(1000);
  REQUIRE(pthread_create(&higher, NULL, SetAsHigher, argument) == 0);
  for (int i = 0; !g_stop; ++i) {
    REQUIRE(i < 1000);  // they stand still
    usleep(10000);
  }
  pthread_join(higher, NULL);
  pthread_join(g_lower, NULL);
}

// Waits for timeouts of 30 us in an io_uring, by the number in the code or, as liburing's loop does, in a register. How many
// were interrupted; -1: there is none to be had.
static int WaitInUring(void) {
  struct io_uring_params ring = {0};
  int fd = (int)syscall(SYS_io_uring_setup, 8, &ring);
  if (fd < 0) return -1;
  size_t size = ring.sq_off.array + 64 + ring.cq_off.cqes + 16 * sizeof(struct io_uring_cqe);
  char* queue = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
  struct io_uring_sqe* entries = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
  REQUIRE(queue != MAP_FAILED && entries != MAP_FAILED);
  struct __kernel_timespec nap = {0, 30000};
  int interrupted = 0;
  for (int i = 0; i < 20000; ++i) {
    entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_TIMEOUT, .addr = (uintptr_t)&nap, .len = 1};
    ((uint32_t*)(queue + ring.sq_off.array))[i % ring.sq_entries] = 0;
    __atomic_fetch_add((uint32_t*)(queue + ring.sq_off.tail), 1, __ATOMIC_RELEASE);
    REQUIRE(syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0) == 1);
    long result;
    register long flags asm("r10") = IORING_ENTER_GETEVENTS;
    register long mask asm("r8") = 0;
    register int number asm("r15") = SYS_io_uring_enter;
    if (i % 2 == 0) {
      asm volatile("movl %1, %%eax; syscall"
                   : "=&a"(result)
                   : "i"(SYS_io_uring_enter), "D"(fd), "S"(0), "d"(1), "r"(flags), "r"(mask)
                   : "rcx", "r11", "memory");
    } else {
      asm volatile("movl %1, %%eax; syscall"
                   : "=&a"(result)
                   : "r"(number), "D"(fd), "S"(0), "d"(1), "r"(flags), "r"(mask)
                   : "rcx", "r11", "memory");
    }
    REQUIRE(result >= 0 || result == -EINTR);
    interrupted += result < 0;
    while (__atomic_load_n((uint32_t*)(queue + ring.cq_off.tail), __ATOMIC_ACQUIRE) != (uint32_t)i + 1) {
    }
    __atomic_store_n((uint32_t*)(queue + ring.cq_off.head), (uint32_t)i + 1, __ATOMIC_RELEASE);
  }
  return interrupted;
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  sigset_t set;
  sigemptyset(&set);
  if (Is(how, "own_profiler")) {  // as GNU sort and gprof: own handler, own ITIMER_PROF
    struct sigaction action = {.sa_sigaction = CountInfo, .sa_flags = SA_SIGINFO | SA_RESTART}, got;
    REQUIRE(sigaction(SIGPROF, &action, NULL) == 0);
    REQUIRE(sigaction(SIGPROF, NULL, &got) == 0 && got.sa_sigaction == CountInfo);
    REQUIRE((got.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_RESTART));  // without the bit that libc adds
    SetProfTimer(20000);
    signal_work(600);
    SetProfTimer(0);
    // 30 of the program's own, by a clock that counts whole ticks: on a busy machine it is a third off, without us, too. Ours
    // (at 1000 Hz there would be 150 to 600) must not reach it.
    int count = g_count;
    bool own = count >= 15 && count <= 60;
    printf("%s\n", own && !g_bad_info ? "own ticks" : "foreign ticks");
    if (!own) printf("%d\n", count);
    REQUIRE(signal(SIGPROF, SIG_DFL) != SIG_ERR);
    signal_work(100);
    return 0;
  }
  if (Is(how, "own_handler_raise")) {  // the signal comes by kill, not from a timer
    signal(SIGPROF, Count);
    for (int i = 0; i < 10; ++i) raise(SIGPROF);
    for (int i = 0; i < 10; ++i) kill(getpid(), SIGPROF);
    signal_work(300);
    printf("%d\n", (int)g_count);
    return 0;
  }
  if (Is(how, "default_raise")) {  // not handled: dies of it, as without us
    signal_work(300);
    raise(SIGPROF);
    return 98;
  }
  if (Is(how, "own_itimer_default")) {  // own timer without handler: dies of it
    SetProfTimer(50000);
    signal_work(2000);
    return 98;
  }
  if (Is(how, "ignored")) {
    signal(SIGPROF, SIG_IGN);
    raise(SIGPROF);
    REQUIRE(signal(SIGPROF, SIG_IGN) == SIG_IGN);
    signal_work(300);
    return 0;
  }
  if (Is(how, "reset_hand")) {
    struct sigaction action = {.sa_handler = Count, .sa_flags = SA_RESETHAND};
    REQUIRE(sigaction(SIGPROF, &action, NULL) == 0);
    signal_work(100);
    raise(SIGPROF);
    REQUIRE(g_count == 1);
    REQUIRE(sigaction(SIGPROF, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    signal_work(300);
    return 0;
  }
  if (Is(how, "reset_hand_race")) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, SpinForEver, NULL) == 0);
    unsigned random = 1;
    for (int i = 0; i < 20000; ++i) {
      struct sigaction once = {.sa_handler = Count, .sa_flags = SA_RESETHAND},
                       later = {.sa_handler = CountAgain};
      g_count = 0;
      REQUIRE(sigaction(SIGTERM, &once, NULL) == 0 && pthread_kill(thread, SIGTERM) == 0);
      random = random * 1103515245 + 12345;
      for (volatile unsigned wait = (random >> 16) % 4000; wait > 0; --wait) {
      }
      REQUIRE(sigaction(SIGTERM, &later, NULL) == 0);
      while (g_count == 0) sched_yield();
      REQUIRE(sigaction(SIGTERM, NULL, &once) == 0 && once.sa_handler == CountAgain);
    }
    return 0;
  }
  if (Is(how, "replaced")) {  // by a raw system call, behind the agent's back
    struct {
      void (*handler)(int);
      unsigned long flags;
      void (*restorer)(void);
      unsigned long mask;
    } action = {SIG_IGN, 0, NULL, 0};
    signal_work(300);
    REQUIRE(RawSystemCall(SYS_rt_sigaction, SIGPROF, (long)&action, 0, 8) == 0);
    signal_work(300);
    return 0;
  }
  if (Is(how, "by_syscall")) {  // as chromium's crash handler sets its own
    ActByLibcsSyscall(SIGPROF);
    ActByLibcsSyscall(SIGTERM);
    ActByLibcsSyscall(SIGSEGV);
    ActByLibcsSyscall(SIGUSR2);
    signal_work(300);
    REQUIRE(g_count == 8);
    raise(SIGPROF);
    REQUIRE(g_count == 9);
    return 0;
  }
  if (Is(how, "answers")) {  // every way to ask about SIGPROF answers as if we were not there
    struct sigaction old;
    REQUIRE(sigaction(SIGPROF, NULL, &old) == 0);
    printf("%d %x\n", old.sa_handler == SIG_DFL, old.sa_flags);
    printf("%d\n", signal(SIGPROF, Count) == SIG_DFL);
    REQUIRE(sigaction(SIGPROF, NULL, &old) == 0);
    printf("%d %x\n", old.sa_handler == Count, old.sa_flags);
    printf("%d\n", sigset(SIGPROF, SIG_DFL) == Count);
    printf("%d\n", sysv_signal(SIGPROF, Count) == SIG_DFL);
    printf("%d\n", ssignal(SIGPROF, SIG_IGN) == Count);
    printf("%d\n", signal(SIGPROF, SIG_DFL) == SIG_IGN);
    for (unsigned flags = 1; flags != 0; flags *= 2) {  // which of them the kernel knows
      struct sigaction asks = {.sa_handler = SIG_IGN, .sa_flags = (int)flags};
      for (int signo = SIGTERM; signo != 0; signo = signo == SIGTERM ? SIGPROF : 0) {
        REQUIRE(sigaction(signo, &asks, NULL) == 0 && sigaction(signo, NULL, &old) == 0);
        printf("%x ", old.sa_flags);
        signal(signo, SIG_DFL);
      }
    }
    sigaddset(&set, SIGPROF);
    printf("%d\n", sigprocmask(SIG_BLOCK, &set, NULL));
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    printf("%d\n", sigismember(&set, SIGPROF));
    sigset_t before;
    REQUIRE(pthread_sigmask(SIG_UNBLOCK, &set, &before) == 0);
    printf("%d\n", sigismember(&before, SIGPROF));
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    printf("%d\n", sigismember(&set, SIGPROF));
    const int kBit = 1 << (SIGPROF - 1);
    printf("%d\n", sigblock(kBit) & kBit);
    printf("%d\n", (sigsetmask(0) & kBit) != 0);
    printf("%d\n", sighold(SIGPROF) | sigrelse(SIGPROF));
    signal_work(300);
    return 0;
  }
  if (Is(how,
         "blocked_pending")) {  // blocked, raised, unblocked: the program's own signal arrives when it said so
    signal(SIGPROF, Count);
    sigaddset(&set, SIGPROF);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGPROF);
    signal_work(200);
    int before = g_count;
    sigset_t pending;
    sigpending(&pending);
    int is_pending = sigismember(&pending, SIGPROF);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("%d %d %d\n", before, is_pending, (int)g_count);
    return 0;
  }
  if (Is(how, "sigwait")) {  // a signal thread that waits for everything must not be handed our ticks
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_t thread = StartWorker();
    for (int i = 0; i < 40; ++i) {
      int got = 0;
      signal_work(5);
      kill(getpid(), SIGUSR1);
      REQUIRE(sigwait(&set, &got) == 0);
      if (got != SIGUSR1) {
        printf("got %d\n", got);
        return 98;
      }
    }
    struct timespec soon = {0, 100000000};
    REQUIRE(sigtimedwait(&set, NULL, &soon) == -1 && errno == EAGAIN);
    g_stop = 1;
    pthread_join(thread, NULL);
    return 0;
  }
  if (Is(how, "misaligned")) {
    WorkMisaligned();
    return 0;
  }
  if (Is(how, "sigtimedwait_for_ever")) {  // a tick in the middle of it must not end it
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pthread_t self = pthread_self(), thread;
    REQUIRE(pthread_create(&thread, NULL, SendWhenAsked, &self) == 0);
    struct timespec longest = {INT64_MAX, 0};
    for (time_t end = time(NULL) + 4; time(NULL) < end;) {
      atomic_store(&g_asked, 1);
      REQUIRE(sigtimedwait(&set, NULL, &longest) == SIGUSR1);
    }
    atomic_store(&g_asked, -1);
    pthread_join(thread, NULL);
    return 0;
  }
  if (Is(how, "signalfd")) {
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    pthread_t thread = StartWorker();
    for (int i = 0; i < 40; ++i) {
      struct signalfd_siginfo info;
      signal_work(5);
      kill(getpid(), SIGUSR1);
      REQUIRE(read(fd, &info, sizeof info) == sizeof info);
      REQUIRE(info.ssi_signo == SIGUSR1);
      REQUIRE(read(fd, &info, sizeof info) == -1 && errno == EAGAIN);
    }
    g_stop = 1;
    pthread_join(thread, NULL);
    return 0;
  }
  if (Is(how, "sigsuspend")) {  // a mask for the time of the call only
    signal(SIGALRM, Count);
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    for (int i = 0; i < 20; ++i) {
      struct itimerval once = {{0, 0}, {0, 20000}};
      setitimer(ITIMER_REAL, &once, NULL);
      signal_work(10);
      sigfillset(&set);
      sigdelset(&set, SIGALRM);
      REQUIRE(sigsuspend(&set) == -1 && errno == EINTR);
      REQUIRE(g_count == i + 1);
      sigfillset(&set);
      struct timespec none = {0, 1000};
      REQUIRE(ppoll(NULL, 0, &none, &set) == 0);
    }
    return 0;
  }
  if (Is(how, "vfork")) {
    SetInVforkChild();
    return 0;
  }
  if (Is(how, "ended_waits")) {
    EndWaits(argv[2], atoi(argv[3]));
    return 0;
  }
  if (Is(how, "interrupted")) {  // EINTR that a program did not reckon with
    pthread_t thread = StartWorker();
    int interrupted = 0;
    for (int i = 0; i < 150; ++i) {
      struct timespec nap = {0, 2000000};
      signal_work(1);
      interrupted += nanosleep(&nap, NULL) != 0;
      interrupted += poll(NULL, 0, 1) != 0;
    }
    g_stop = 1;
    pthread_join(thread, NULL);
    printf("%d\n", interrupted);
    return 0;
  }
  if (Is(how, "short_waits")) {  // in a loop: most ticks come in or right behind one
    int interrupted = 0;
    sem_t semaphore;
    REQUIRE(sem_init(&semaphore, 0, 0) == 0);
    for (int i = 0; i < 8000; ++i) {
      const struct timespec nap = {0, 1000};
      struct timespec end;
      clock_gettime(CLOCK_REALTIME, &end);
      interrupted += nanosleep(&nap, NULL) != 0;
      interrupted += sem_timedwait(&semaphore, &end) == 0 || errno != ETIMEDOUT;
      interrupted += poll(NULL, 0, i % 4 == 0) != 0;
    }
    printf("%d\n", interrupted);
    return 0;
  }
  if (Is(how, "uring_waits")) {
    printf("%d\n", WaitInUring());
    return 0;
  }
  if (Is(how, "suspend_once")) {
    SuspendOnce();
    return 0;
  }
  if (Is(how, "priorities")) {
    MeetAtOneHandler(atoi(argv[2]));
    return 0;
  }
  if (Is(how, "busy")) {  // nothing but computing: for strace
    for (int i = 0; i < atoi(argv[2]); ++i) SPIN();
    return 0;
  }
  return 97;
}
