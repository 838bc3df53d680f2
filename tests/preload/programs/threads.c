// Threads of unusual kinds, each of which works a known time.
#include <dlfcn.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>

#include "tests/preload/programs/program.h"

WORK(main_work)
WORK(thread_work)
WORK(short_work)
WORK(cancelled_work)
WORK(destructor_work)
WORK(raw_thread_work)

static void* Short(void* unused) {
  short_work(4);
  return NULL;
}

static void* ShortUntilCancelled(void* begun) {
  short_work(4);
  atomic_store((atomic_int*)begun, 1);
  for (;;) pause();
  return NULL;
}

// Turns that are shorter than the kernel's tick, between sleeps.
static pthread_barrier_t g_barrier;
static void* Turns(void* unused) {
  for (int i = 0; i < 12; ++i) {
    thread_work(1);
    usleep(1000);
  }
  pthread_barrier_wait(&g_barrier);  // all have worked
  pthread_barrier_wait(&g_barrier);  // the dump is written
  return NULL;
}

static void* Work(void* millis) {
  thread_work((long)(intptr_t)millis);
  return NULL;
}

static void* Blocked(void* unused) {
  sigset_t all, got;
  sigfillset(&all);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
  thread_work(300);
  // The thread asked for everything to be blocked, and must be told so.
  REQUIRE(pthread_sigmask(SIG_SETMASK, NULL, &got) == 0 && sigismember(&got, SIGPROF) == 1);
  return NULL;
}

static void* Named(void* name) {
  prctl(PR_SET_NAME, name);
  thread_work(200);
  return NULL;
}

static volatile int g_started;
static void* UntilCancelled(void* unused) {
  g_started = 1;
  for (;;) {
    cancelled_work(5);
    pthread_testcancel();
  }
  return NULL;
}
static void* AsynchronouslyCancelled(void* unused) {
  int old;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
  g_started = 1;
  for (;;) cancelled_work(1000);
  return NULL;
}

static void WorkInDestructor(void* unused) { destructor_work(200); }

static pthread_key_t g_key;
static void* WithDestructor(void* unused) {
  pthread_setspecific(g_key, "x");
  return NULL;
}

static void* Forker(void* unused) {
  for (int i = 0; i < 40; ++i) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      free(malloc(1000));
      _exit(5);
    }
    ExpectExit(child, 5);
    short_work(1);
  }
  return NULL;
}

static int RawThread(void* unused) {
  raw_thread_work(300);
  return 0;
}

// Work some frames deep, with an array in each: what small stacks are used for.
WHOLE_FUNCTION static long Deep(int depth) {
  volatile char here[64];
  here[0] = (char)depth;
  if (depth == 0) {
    thread_work(50);
    return here[0];
  }
  return Deep(depth - 1) + here[0];
}
static void* DeepOnSmallStack(void* unused) {
  Deep(20);
  return NULL;
}

static pthread_t Start(const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  pthread_t thread;
  int error = pthread_create(&thread, attributes, start, argument);
  REQUIRE(error == 0);
  return thread;
}

static atomic_int g_notified, g_worked;
static void OnTimer(union sigval value) {
  short_work(20);
  if (atomic_fetch_add(&g_notified, 1) % 2 == 0) pthread_exit(NULL);
}
static void OnOtherTimer(union sigval value) {
  thread_work(value.sival_int);
  atomic_store(&g_worked, 1);
}
static timer_t StartTimer(void (*function)(union sigval), int value, pthread_attr_t* attributes,
                          long period) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD,
                           .sigev_value.sival_int = value,
                           .sigev_notify_function = function,
                           .sigev_notify_attributes = attributes};
  struct itimerspec time = {{0, period}, {0, 10000000}};
  timer_t timer;
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && event.sigev_notify_function == function);
  REQUIRE(timer_settime(timer, 0, &time, NULL) == 0);
  return timer;
}

static void* FailToExec(void* barrier) {
  pthread_barrier_wait(barrier);
  for (int i = 0; i < 30; ++i) execl("/nonexistent", "nonexistent", NULL);
  return NULL;
}

static void* WorkBesideASmallStack(void* unused) {
  static char memory[2048];
  stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
  REQUIRE(sigaltstack(&stack, NULL) == 0);
  thread_work(1500);
  return NULL;
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (Is(how, "come_and_go")) {
    for (int round = 0; round < 125; ++round) {
      pthread_t threads[4];
      for (int i = 0; i < 4; ++i) threads[i] = Start(NULL, Short, NULL);
      for (int i = 0; i < 4; ++i) REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    // A timer that outlives its thread uses one of RLIMIT_SIGPENDING: some may wait to be collected, not all of 500.
    char line[256];
    int timers = 0;
    FILE* file = fopen("/proc/self/timers", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) timers += strncmp(line, "ID:", 3) == 0;
    if (timers > 100) printf("%d timers are left\n", timers);
    return timers > 100 ? 98 : 0;
  }
  if (Is(how, "come_and_are_cancelled")) {
    for (int i = 0; i < 250; ++i) {
      atomic_int begun = 0;
      pthread_t thread = Start(NULL, ShortUntilCancelled, &begun);
      while (!atomic_load(&begun)) usleep(500);
      REQUIRE(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    }
    return 0;
  }
  if (Is(how, "dumped") || Is(how, "executed") ||
      Is(how, "daemon")) {  // in the middle: says what CPU time was spent until then, in microseconds
    enum { kThreads = 40 };
    pthread_t threads[kThreads];
    REQUIRE(pthread_barrier_init(&g_barrier, NULL, kThreads + 1) == 0);
    for (int i = 0; i < kThreads; ++i) threads[i] = Start(NULL, Turns, NULL);
    pthread_barrier_wait(&g_barrier);
    struct timespec spent;
    REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent) == 0);
    printf("%ld\n", spent.tv_sec * 1000000 + spent.tv_nsec / 1000);
    fflush(stdout);
    if (Is(how, "executed")) execl("/bin/true", "true", NULL);
    if (Is(how, "daemon")) {
      REQUIRE(daemon(1, 1) == 0);
      _exit(0);
    }
    REQUIRE(kill(getpid(), SIGUSR2) == 0);
    pthread_barrier_wait(&g_barrier);
    for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
    return 0;
  }
  if (Is(how, "detached")) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 100; ++i) Start(&attributes, Short, NULL);
    main_work(600);
    return 0;
  }
  if (Is(how, "notified")) {  // main does nothing: the threads are libc's own, one for each expiry
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    StartTimer(OnTimer, 0, NULL, 0);
    StartTimer(OnOtherTimer, 100, &attributes, 0);
    timer_t timer = StartTimer(OnTimer, 1, NULL, 40000000);
    while (atomic_load(&g_notified) < 11 || !atomic_load(&g_worked)) usleep(1000);
    REQUIRE(timer_delete(timer) == 0);
    return 0;
  }
  if (Is(how, "small_stacks")) {
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    for (int i = 0; i < 10; ++i) pthread_join(Start(&attributes, DeepOnSmallStack, NULL), NULL);
    return 0;
  }
  if (Is(how, "own_stack")) {  // the program brings the stack, ending right before an unreadable page
    size_t size = 64 << 10;
    char* stack = mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mprotect(stack + 4096, size, PROT_READ | PROT_WRITE) == 0);
    REQUIRE(pthread_attr_setstack(&attributes, stack + 4096, size) == 0);
    pthread_join(Start(&attributes, Work, (void*)300), NULL);
    return 0;
  }
  if (Is(how, "blocked")) {
    pthread_join(Start(NULL, Blocked, NULL), NULL);
    return 0;
  }
  if (Is(how, "blocked_before_start")) {  // the thread inherits a mask in which everything is blocked
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_join(Start(NULL, Work, (void*)300), NULL);
    return 0;
  }
  if (Is(how, "failing_execs")) {  // in several threads at once
    pthread_barrier_t barrier;
    pthread_t threads[3];
    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 3; ++i) threads[i] = Start(NULL, FailToExec, &barrier);
    for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
    main_work(500);
    return 0;
  }
  if (Is(how, "named")) {
    pthread_t a = Start(NULL, Named, "alpha"), b = Start(NULL, Named, "beta gamma");
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    main_work(200);
    return 0;
  }
  if (Is(how, "named_by_another")) {
    pthread_t a = Start(NULL, Work, (void*)300);
    pthread_setname_np(a, "renamed");
    pthread_join(a, NULL);
    return 0;
  }
  if (Is(how, "cancelled") || Is(how, "cancelled_asynchronously")) {
    for (int i = 0; i < 10; ++i) {
      g_started = 0;
      void* result;
      pthread_t thread = Start(NULL, Is(how, "cancelled") ? UntilCancelled : AsynchronouslyCancelled, NULL);
      while (!g_started) sched_yield();
      usleep(20000);
      REQUIRE(pthread_cancel(thread) == 0);
      REQUIRE(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    return 0;
  }
  if (Is(how, "destructor")) {
    pthread_key_create(&g_key, WorkInDestructor);
    pthread_join(Start(NULL, WithDestructor, NULL), NULL);
    return 0;
  }
  if (Is(how, "raw_clone")) {  // a thread that libc knows nothing of, and that shares our thread pointer
    static char stack[64 << 10] __attribute__((aligned(16)));
    static int done;
    done = 1;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                CLONE_CHILD_CLEARTID;
    REQUIRE(clone(RawThread, stack + sizeof stack, flags, NULL, NULL, NULL, &done) > 0);
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != 0) usleep(1000);
    main_work(300);
    return 0;
  }
  if (Is(how, "from_dlsym")) {  // as Free Pascal's runtime has it: past every preloaded library
    int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) =
        (int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*))dlsym(
            dlopen("libpthread.so.0", RTLD_LAZY), "pthread_create");
    pthread_t thread;
    if (argc == 2) {
      struct timespec second = {1, 100000000};
      REQUIRE(create(&thread, NULL, WorkBesideASmallStack, NULL) == 0);
      nanosleep(&second, NULL);
      pthread_join(Start(NULL, Work, (void*)0), NULL);  // the agent looks who else is there
      pthread_join(thread, NULL);
      return 0;
    }
    REQUIRE(create(&thread, NULL, Work, (void*)600) == 0);
    pthread_join(thread, NULL);
    main_work(atoi(argv[2]));
    return 0;
  }
  if (Is(how, "forks")) {  // a multi-threaded program forks from two threads while others work
    pthread_t threads[4];
    threads[0] = Start(NULL, Forker, NULL);
    threads[1] = Start(NULL, Forker, NULL);
    threads[2] = Start(NULL, Work, (void*)400);
    threads[3] = Start(NULL, Work, (void*)400);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
    return 0;
  }
  if (Is(how, "error")) {  // pthread_create's own errors pass through
    pthread_t thread;
    pthread_attr_setstacksize(&attributes, (size_t)1 << 46);
    REQUIRE(pthread_create(&thread, &attributes, Work, NULL) == EAGAIN);
    main_work(300);
    return 0;
  }
  return 97;
}
