// Locks in programs that are hostile to who looks at them. Each prints what it has timed itself, where that is known.
#include <limits.h>
#include <semaphore.h>
#include <setjmp.h>

#include "tests/preload/programs/program.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t other = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static atomic_int arrived;
static atomic_bool may_end;

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
static void Sleep(long millis) {
  struct timespec time = {millis / 1000, millis % 1000 * 1000000};
  while (nanosleep(&time, &time) != 0) {
  }
}
// Until `count` threads stand right before their wait, and some time more so that they are in it.
static void AwaitArrivals(int count) {
  while (atomic_load(&arrived) < count) Sleep(1);
  Sleep(20);
}
static pthread_t Start(void* (*routine)(void*), void* argument) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, routine, argument) == 0);
  return thread;
}
// Not a wait that a profile sees.
static void AwaitEnd(pthread_t thread) {
  while (pthread_tryjoin_np(thread, NULL) != 0) Sleep(1);
}
WHOLE_FUNCTION void LockHere(pthread_mutex_t* lock) { REQUIRE(pthread_mutex_lock(lock) == 0); }
WHOLE_FUNCTION void UnlockHere(pthread_mutex_t* lock) { REQUIRE(pthread_mutex_unlock(lock) == 0); }
WHOLE_FUNCTION void* LockAndUnlock(void* lock) {
  atomic_fetch_add(&arrived, 1);
  LockHere(lock);
  UnlockHere(lock);
  return NULL;
}

// The worker waits 2 ms for the lock and holds it 1 ms; main waits for the worker.
static int64_t worker_waited, main_waited, main_held, arrived_at;
WHOLE_FUNCTION void WorkerLocks(void) {
  int64_t before = Now();
  REQUIRE(pthread_mutex_lock(&mutex) == 0);
  worker_waited += Now() - before;
}
static void* Worker(void* unused) {
  arrived_at = Now();
  atomic_store(&arrived, 1);
  WorkerLocks();
  Sleep(1);
  pthread_mutex_unlock(&mutex);
  return unused;
}
WHOLE_FUNCTION void MainUnlocks(void) { REQUIRE(pthread_mutex_unlock(&mutex) == 0); }
WHOLE_FUNCTION void MainJoins(pthread_t worker) {
  int64_t before = Now();
  REQUIRE(pthread_join(worker, NULL) == 0);
  main_waited += Now() - before;
}
static void GroundTruth(void) {
  for (int i = 0; i < 50; ++i) {
    atomic_store(&arrived, 0);
    REQUIRE(pthread_mutex_lock(&mutex) == 0);
    pthread_t worker = Start(Worker, NULL);
    // Until it sleeps, as libc's lock word says: on a busy machine it may be taken off its processor on the way there for longer
    // than the lock is held, and then it never waits.
    while (!atomic_load(&arrived) || __atomic_load_n(&mutex.__data.__lock, __ATOMIC_RELAXED) != 2)
      sched_yield();
    Sleep(2);
    main_held += Now() - arrived_at;
    MainUnlocks();
    MainJoins(worker);
  }
  printf("%lld %lld %lld\n", (long long)worker_waited, (long long)main_waited, (long long)main_held);
}

// N threads wait for one lock: all of them are charged to its holder.
static void Crowd(int count) {
  pthread_t threads[count];
  LockHere(&mutex);
  for (int i = 0; i < count; ++i) threads[i] = Start(LockAndUnlock, &mutex);
  AwaitArrivals(count);
  int64_t before = Now();
  Sleep(100);
  int64_t held = Now() - before;
  UnlockHere(&mutex);
  for (int i = 0; i < count; ++i) AwaitEnd(threads[i]);
  printf("%d %lld\n", count, (long long)held);
}

// A handler that waits for a lock interrupts a wait for another lock.
WHOLE_FUNCTION void HandlerLocks(void) {
  REQUIRE(pthread_mutex_lock(&other) == 0);
  pthread_mutex_unlock(&other);
}
static void OnSignal(int signo) {
  (void)signo;
  int before = errno;
  HandlerLocks();
  REQUIRE(errno == before);
  atomic_store(&may_end, true);
}
// "inside": the handler's stack is a piece of the thread's own, above the wait that it interrupts.
static void* LockBelowAlternate(void* how) {
  char inside[65536];
  stack_t stack = {.ss_sp = inside, .ss_size = sizeof inside}, none = {.ss_flags = SS_DISABLE};
  if (Is(how, "inside")) REQUIRE(sigaltstack(&stack, NULL) == 0);
  LockAndUnlock(&mutex);
  if (Is(how, "inside")) REQUIRE(sigaltstack(&none, NULL) == 0);
  return NULL;
}
static void Handler(const char* how) {
  struct sigaction action = {.sa_handler = OnSignal, .sa_flags = SA_ONSTACK | SA_RESTART};
  REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
  LockHere(&mutex);
  REQUIRE(pthread_mutex_lock(&other) == 0);
  pthread_t thread = Start(LockBelowAlternate, (void*)how);
  AwaitArrivals(1);
  pthread_kill(thread, SIGUSR1);
  Sleep(60);
  pthread_mutex_unlock(&other);
  while (!atomic_load(&may_end)) Sleep(1);
  Sleep(60);
  UnlockHere(&mutex);
  AwaitEnd(thread);
}

// A robust mutex whose owner dies with it.
static pthread_mutex_t robust;
static void MakeRobust(pthread_mutex_t* made) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  REQUIRE(pthread_mutex_init(made, &attributes) == 0);
}
static void* LockAndDie(void* millis) {
  REQUIRE(pthread_mutex_lock(&robust) == 0);
  atomic_store(&arrived, 1);
  Sleep((long)(intptr_t)millis);
  return NULL;
}
WHOLE_FUNCTION int LockRobust(void) { return pthread_mutex_lock(&robust); }
static void DeadOwner(void) {
  MakeRobust(&robust);
  // It is dead already: the try takes the lock.
  AwaitEnd(Start(LockAndDie, (void*)0));
  REQUIRE(LockRobust() == EOWNERDEAD);
  REQUIRE(pthread_mutex_consistent(&robust) == 0);
  REQUIRE(pthread_mutex_unlock(&robust) == 0);
  REQUIRE(LockRobust() == 0 && pthread_mutex_unlock(&robust) == 0);
  // It dies while we wait.
  atomic_store(&arrived, 0);
  pthread_t owner = Start(LockAndDie, (void*)60);
  while (!atomic_load(&arrived)) Sleep(1);
  REQUIRE(LockRobust() == EOWNERDEAD);
  // Given up: nobody gets it any more, and everybody is told. (libc's trylock keeps it when it has said so.)
  REQUIRE(pthread_mutex_unlock(&robust) == 0);
  struct timespec past = {1, 0};
  for (int i = 0; i < 2; ++i) {
    REQUIRE(LockRobust() == ENOTRECOVERABLE);
    REQUIRE(pthread_mutex_timedlock(&robust, &past) == ENOTRECOVERABLE);
    REQUIRE(pthread_mutex_clocklock(&robust, CLOCK_MONOTONIC, &past) == ENOTRECOVERABLE);
  }
  AwaitEnd(owner);
}

// A mutex that somebody unlocks who does not have it.
static pthread_mutex_t checked;
static void* UnlockOthers(void* unused) {
  REQUIRE(pthread_mutex_unlock(&checked) == EPERM);
  return unused;
}
static void RefusedUnlock(const char* kind) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  if (Is(kind, "errorcheck")) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  if (Is(kind, "recursive")) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
  if (Is(kind, "robust")) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (Is(kind, "inheriting")) pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  REQUIRE(pthread_mutex_init(&checked, &attributes) == 0);
  LockHere(&checked);
  pthread_t thread = Start(LockAndUnlock, &checked);
  AwaitArrivals(1);
  int64_t since = Now();
  Sleep(80);
  AwaitEnd(Start(UnlockOthers, NULL));
  UnlockHere(&checked);
  printf("%lld\n", (long long)(Now() - since));
  AwaitEnd(thread);
}

// A mutex in shared memory, held by the other process.
static void Shared(void) {
  struct {
    pthread_mutex_t mutex;
    atomic_int held;
  }* shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  REQUIRE(pthread_mutex_init(&shared->mutex, &attributes) == 0);
  pid_t child = fork();
  if (child == 0) {
    LockHere(&shared->mutex);
    atomic_store(&shared->held, 1);
    Sleep(60);
    UnlockHere(&shared->mutex);
    _exit(0);
  }
  while (!atomic_load(&shared->held)) Sleep(1);
  LockHere(&shared->mutex);
  UnlockHere(&shared->mutex);
  ExpectExit(child, 0);
}

// The last user of a mutex unmaps it while the one before is still in its unlock.
struct ShortLived {
  pthread_mutex_t mutex;
  atomic_int users;
};
static void* UseOnce(void* argument) {
  struct ShortLived* lived = argument;
  REQUIRE(pthread_mutex_lock(&lived->mutex) == 0);
  bool last = atomic_fetch_sub(&lived->users, 1) == 1;
  for (volatile int i = 0; i < 2000;) i = i + 1;
  REQUIRE(pthread_mutex_unlock(&lived->mutex) == 0);
  if (last) REQUIRE(munmap(lived, 4096) == 0);
  return NULL;
}
static void Unmapped(void) {
  void* place = NULL;
  for (int i = 0; i < 400; ++i) {
    // Again and again at the same address.
    struct ShortLived* lived = mmap(place, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(lived != MAP_FAILED);
    place = lived;
    pthread_mutex_init(&lived->mutex, NULL);
    atomic_store(&lived->users, 4);
    pthread_t threads[4];
    for (int k = 0; k < 4; ++k) threads[k] = Start(UseOnce, lived);
    for (int k = 0; k < 4; ++k) REQUIRE(pthread_join(threads[k], NULL) == 0);
  }
}

// Cancelled in a wait. Afterwards nobody waits: the mutex's unlocks are charged with nothing.
static void UnlockMutex(void* lock) { pthread_mutex_unlock(lock); }
static pthread_t main_thread;
static void* WaitForEver(void* how) {
  if (Is(how, "cond")) {
    LockHere(&mutex);
    pthread_cleanup_push(UnlockMutex, &mutex);
    atomic_fetch_add(&arrived, 1);
    for (;;) pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
  }
  atomic_fetch_add(&arrived, 1);
  if (Is(how, "sem")) sem_wait(&semaphore);
  if (Is(how, "join")) pthread_join(main_thread, NULL);
  return NULL;
}
static void Cancelled(const char* how) {
  sem_init(&semaphore, 0, 0);
  main_thread = pthread_self();
  for (int i = 0; i < 20; ++i) {
    atomic_store(&arrived, 0);
    pthread_t thread = Start(WaitForEver, (void*)how);
    AwaitArrivals(1);
    REQUIRE(pthread_cancel(thread) == 0);
    void* result;
    REQUIRE(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    pthread_cond_broadcast(&condition);
    LockHere(&mutex);
    Sleep(2);
    UnlockHere(&mutex);
  }
}

// The semaphore is free, but the thread is to be cancelled: sem_wait must not take it.
static void* WaitWhenCancelled(void* unused) {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  atomic_store(&arrived, 1);
  while (!atomic_load(&may_end)) Sleep(1);
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  sem_wait(&semaphore);
  return unused;
}
static void CancelledBefore(void) {
  sem_init(&semaphore, 0, 1);
  pthread_t thread = Start(WaitWhenCancelled, NULL);
  AwaitArrivals(1);
  pthread_cancel(thread);
  atomic_store(&may_end, true);
  void* result;
  REQUIRE(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
  int value;
  REQUIRE(sem_getvalue(&semaphore, &value) == 0 && value == 1);
}

static void* ExitHolding(void* unused) {
  (void)unused;
  LockHere(&mutex);
  LockHere(&robust);
  pthread_exit(NULL);
}
static void ExitsHolding(void) {
  MakeRobust(&robust);
  AwaitEnd(Start(ExitHolding, NULL));
  REQUIRE(pthread_mutex_trylock(&mutex) == EBUSY);
  struct timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec += 60000000;
  if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, ++soon.tv_sec;
  REQUIRE(pthread_mutex_timedlock(&mutex, &soon) == ETIMEDOUT);
  REQUIRE(pthread_mutex_lock(&robust) == EOWNERDEAD);
}

// A handler jumps out of a wait; the thread goes on, and so do the locks.
static sigjmp_buf escape;
static void JumpOut(int signo) {
  (void)signo;
  siglongjmp(escape, 1);
}
static void* WaitAndJump(void* unused) {
  for (int i = 0; i < 20; ++i) {
    if (sigsetjmp(escape, 1) == 0) {
      atomic_store(&arrived, 1);
      LockHere(&mutex);
      REQUIRE(!"got the lock");
    }
    // Another wait, from the same place: the abandoned one is found.
    struct timespec past = {1, 0};
    REQUIRE(sem_timedwait(&semaphore, &past) == -1 && errno == ETIMEDOUT);
    atomic_store(&arrived, 0);
    while (atomic_load(&arrived) != 2) Sleep(1);
  }
  return unused;
}
static void Jumps(void) {
  signal(SIGUSR1, JumpOut);
  sem_init(&semaphore, 0, 0);
  LockHere(&mutex);
  pthread_t thread = Start(WaitAndJump, NULL);
  for (int i = 0; i < 20; ++i) {
    while (atomic_load(&arrived) != 1) Sleep(1);
    Sleep(10);
    pthread_kill(thread, SIGUSR1);
    while (atomic_load(&arrived) != 0) Sleep(1);
    UnlockHere(&mutex);
    Sleep(20);
    LockHere(&mutex);
    atomic_store(&arrived, 2);
  }
  AwaitEnd(thread);
}
static void* JumpAndExit(void* how) {
  if (sigsetjmp(escape, 1) == 0) WaitForEver(how);
  // What the wait had on the stack is gone.
  volatile char over[4096];
  for (size_t i = 0; i < sizeof over; ++i) over[i] = 1;
  pthread_exit(how);
}
static void JumpsAndExits(const char* how) {
  signal(SIGUSR1, JumpOut);
  sem_init(&semaphore, 0, 0);
  main_thread = pthread_self();
  pthread_t thread = Start(JumpAndExit, (void*)how);
  AwaitArrivals(1);
  REQUIRE(pthread_kill(thread, SIGUSR1) == 0);
  void* result;
  REQUIRE(pthread_join(thread, &result) == 0 && result == how);
}

// A lock there that another thread waits for.
static void OnMainsStack(void) {
  pthread_mutex_t local = PTHREAD_MUTEX_INITIALIZER;
  LockHere(&local);
  pthread_t thread = Start(LockAndUnlock, &local);
  AwaitArrivals(1);
  UnlockHere(&local);
  AwaitEnd(thread);
}

// What waits when the process ends.
static void* LockTwice(void* unused) {
  LockHere(&mutex);
  atomic_store(&arrived, 1);
  LockHere(&mutex);  // itself
  return unused;
}
static void Deadlock(void) {
  Start(LockTwice, NULL);
  AwaitArrivals(1);
  Say("stuck\n");
  Sleep(100);
}
static void DeadlockAndKill(void) {
  Deadlock();
  raise(SIGKILL);
}

// Errors that say that nothing was waited for, and time-outs, which were waits.
static void Errors(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_t careful;
  REQUIRE(pthread_mutex_init(&careful, &attributes) == 0);
  errno = 77;
  REQUIRE(pthread_mutex_unlock(&careful) == EPERM);
  REQUIRE(pthread_mutex_lock(&careful) == 0);
  REQUIRE(pthread_mutex_lock(&careful) == EDEADLK);
  REQUIRE(pthread_mutex_trylock(&careful) == EBUSY);
  struct timespec now, wrong = {1, 2000000000};
  clock_gettime(CLOCK_REALTIME, &now);
  REQUIRE(pthread_mutex_timedlock(&careful, &now) == EDEADLK);
  REQUIRE(pthread_mutex_clocklock(&careful, 99, &now) == EINVAL);
  REQUIRE(pthread_mutex_unlock(&careful) == 0);
  REQUIRE(pthread_mutex_clocklock(&careful, 99, &now) == EINVAL);
  REQUIRE(pthread_mutex_timedlock(&careful, &wrong) == 0);  // free: the deadline is not looked at
  REQUIRE(pthread_rwlock_wrlock(&rwlock) == 0);
  REQUIRE(pthread_rwlock_wrlock(&rwlock) == EDEADLK);
  REQUIRE(pthread_rwlock_rdlock(&rwlock) == EDEADLK);
  REQUIRE(pthread_rwlock_unlock(&rwlock) == 0);
  REQUIRE(pthread_rwlock_timedrdlock(&rwlock, &wrong) == EINVAL);
  REQUIRE(pthread_rwlock_clockwrlock(&rwlock, 99, &now) == EINVAL);
  REQUIRE(pthread_join(pthread_self(), NULL) == EDEADLK);
  REQUIRE(errno == 77);
  sem_init(&semaphore, 0, 1);
  REQUIRE(sem_timedwait(&semaphore, &wrong) == -1 && errno == EINVAL);
  errno = 77;
  REQUIRE(sem_wait(&semaphore) == 0 && errno == 77);
  REQUIRE(sem_timedwait(&semaphore, &now) == -1 && errno == ETIMEDOUT);
  REQUIRE(sem_clockwait(&semaphore, 99, &now) == -1 && errno == EINVAL);
  int word = 1;
  REQUIRE(syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0) == -1 && errno == EAGAIN);
  REQUIRE(syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0) == 0);
  REQUIRE(syscall(SYS_getpid) == getpid());
  REQUIRE(syscall(100000) == -1 && errno == ENOSYS);
  // All six arguments arrive.
  char* six =
      (char*)syscall(SYS_mmap, NULL, 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  REQUIRE(six != MAP_FAILED);
  *six = 1;
  REQUIRE(pthread_cond_timedwait(&condition, &mutex, &wrong) == EINVAL);
}

WHOLE_FUNCTION void* Read(void* millis) {
  REQUIRE(pthread_rwlock_rdlock(&rwlock) == 0);
  atomic_fetch_add(&arrived, 1);
  while (atomic_load(&arrived) < 4) Sleep(1);
  Sleep((long)(intptr_t)millis);
  REQUIRE(pthread_rwlock_unlock(&rwlock) == 0);
  return NULL;
}
WHOLE_FUNCTION void* FirstReader(void* unused) {
  Read((void*)30);
  return unused;
}
WHOLE_FUNCTION void* LastReader(void* unused) {
  Read((void*)90);
  return unused;
}
// A writer waits for two readers: the last one lets it in.
static void Readers(void) {
  pthread_t first = Start(FirstReader, NULL), last = Start(LastReader, NULL);
  while (atomic_load(&arrived) < 2) Sleep(1);
  atomic_fetch_add(&arrived, 2);
  int64_t before = Now();
  REQUIRE(pthread_rwlock_wrlock(&rwlock) == 0);
  int64_t waited = Now() - before;
  pthread_rwlock_unlock(&rwlock);
  AwaitEnd(first);
  AwaitEnd(last);
  printf("%lld\n", (long long)waited);
}

// Threads are woken while their mutex is held: they wait for it in pthread_cond_wait.
static bool ready;
static void* WaitUntilReady(void* unused) {
  LockHere(&mutex);
  atomic_fetch_add(&arrived, 1);
  while (!ready) pthread_cond_wait(&condition, &mutex);
  UnlockHere(&mutex);
  return unused;
}
WHOLE_FUNCTION void UnlockAfterSignal(void) { REQUIRE(pthread_mutex_unlock(&mutex) == 0); }
static void Woken(int count) {
  pthread_t threads[count];
  for (int i = 0; i < count; ++i) threads[i] = Start(WaitUntilReady, NULL);
  AwaitArrivals(count);
  LockHere(&mutex);
  ready = true;
  if (count > 1) {
    pthread_cond_broadcast(&condition);
  } else {
    pthread_cond_signal(&condition);
  }
  int64_t before = Now();
  Sleep(60);
  int64_t held = Now() - before;
  UnlockAfterSignal();
  for (int i = 0; i < count; ++i) AwaitEnd(threads[i]);
  // Nobody waits any more: this is charged with nothing.
  LockHere(&mutex);
  Sleep(60);
  UnlockHere(&mutex);
  printf("%lld\n", (long long)held);
}

// Who waits for a mutex is let in by its holder's pthread_cond_wait.
static void* LockAndSignal(void* unused) {
  arrived_at = Now();
  atomic_store(&arrived, 1);
  LockHere(&mutex);
  ready = true;
  pthread_cond_signal(&condition);
  pthread_mutex_unlock(&mutex);
  return unused;
}
WHOLE_FUNCTION void GiveUpTheMutex(void) {
  while (!ready) pthread_cond_wait(&condition, &mutex);
}
static void GivenUp(void) {
  REQUIRE(pthread_mutex_lock(&mutex) == 0);
  pthread_t thread = Start(LockAndSignal, NULL);
  AwaitArrivals(1);
  Sleep(60);
  int64_t held = Now() - arrived_at;
  GiveUpTheMutex();
  pthread_mutex_unlock(&mutex);
  AwaitEnd(thread);
  printf("%lld\n", (long long)held);
}

// A process with waiting threads forks; the child has none of them.
static void Forks(void) {
  LockHere(&mutex);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) threads[i] = Start(LockAndUnlock, &mutex);
  AwaitArrivals(4);
  pid_t child = fork();
  if (child == 0) {
    UnlockHere(&mutex);
    atomic_store(&arrived, 0);
    LockHere(&mutex);
    int64_t started = Now();
    pthread_t thread = Start(LockAndUnlock, &mutex);
    AwaitArrivals(1);
    int64_t waits = Now();
    Sleep(40);
    UnlockHere(&mutex);
    int64_t unlocked = Now();
    AwaitEnd(thread);
    printf("%lld %lld\n", (long long)(unlocked - waits), (long long)(unlocked - started));
    exit(0);
  }
  ExpectExit(child, 0);
  UnlockHere(&mutex);
  for (int i = 0; i < 4; ++i) AwaitEnd(threads[i]);
}

// A vfork child works in its parent's memory.
static void Vforks(void) {
  for (int i = 0; i < 100; ++i) {
    pid_t child = vfork();
    if (child == 0) {
      pthread_mutex_lock(&mutex);
      pthread_mutex_unlock(&mutex);
      _exit(0);
    }
    ExpectExit(child, 0);
  }
  LockHere(&mutex);
  pthread_t thread = Start(LockAndUnlock, &mutex);
  AwaitArrivals(1);
  UnlockHere(&mutex);
  AwaitEnd(thread);
}

// Many threads, few locks, everything at once; the program counts for itself.
static long counters[4];
static pthread_mutex_t few[4] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                 PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static void* Hammer(void* seed) {
  unsigned random = (unsigned)(uintptr_t)seed;
  for (int i = 0; i < 20000; ++i) {
    random = random * 1103515245 + 12345;
    int which = random >> 16 & 3;
    REQUIRE(pthread_mutex_lock(&few[which]) == 0);
    long before = counters[which];
    if ((random >> 20 & 63) == 0) sched_yield();
    counters[which] = before + 1;
    REQUIRE(pthread_mutex_unlock(&few[which]) == 0);
  }
  return NULL;
}
static void Storm(void) {
  pthread_t threads[16];
  for (intptr_t i = 0; i < 16; ++i) threads[i] = Start(Hammer, (void*)i);
  for (int i = 0; i < 16; ++i) REQUIRE(pthread_join(threads[i], NULL) == 0);
  REQUIRE(counters[0] + counters[1] + counters[2] + counters[3] == 16 * 20000);
}

static volatile int g_handled;
static void CountSignal(int number) { ++g_handled; }

// The thread sanitizer's sigaction gives the kernel a handler of its own, which knows when the program's may run.
static void Handlers(void) {
  for (int i = 0; i < 2; ++i) {
    struct sigaction action = {.sa_handler = CountSignal}, seen;
    if (i == 0) REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    if (i == 1) REQUIRE(signal(SIGALRM, CountSignal) == CountSignal);
    struct {
      void (*handler)(int);
      unsigned long flags, restorer, mask;
    } kernel;
    REQUIRE(RawSystemCall(SYS_rt_sigaction, SIGALRM, 0, (long)&kernel, 8) == 0);
    REQUIRE(sigaction(SIGALRM, NULL, &seen) == 0 && seen.sa_handler == CountSignal);
    raise(SIGALRM);
    printf("%s, %d\n", kernel.handler == CountSignal ? "bare" : "wrapped", g_handled);
  }
  fflush(stdout);
  REQUIRE(signal(SIGALRM, SIG_DFL) == CountSignal);
  raise(SIGALRM);
}

// The cycle counter, which the vDSO's clock reads, is forbidden from here on.
static void NoCounter(void) {
  REQUIRE(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
  LockHere(&mutex);
  pthread_t thread = Start(LockAndUnlock, &mutex);
  AwaitArrivals(1);  // 20 ms
  UnlockHere(&mutex);
  AwaitEnd(thread);
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  int count = argc > 2 ? atoi(argv[2]) : 1;
  if (Is(how, "ground_truth")) GroundTruth();
  if (Is(how, "crowd")) Crowd(count);
  if (Is(how, "handler")) Handler(argv[2]);
  if (Is(how, "dead_owner")) DeadOwner();
  if (Is(how, "refused_unlock")) RefusedUnlock(argv[2]);
  if (Is(how, "shared")) Shared();
  if (Is(how, "unmapped")) Unmapped();
  if (Is(how, "cancelled")) Cancelled(argv[2]);
  if (Is(how, "cancelled_before")) CancelledBefore();
  if (Is(how, "exits_holding")) ExitsHolding();
  if (Is(how, "jumps")) Jumps();
  if (Is(how, "on_mains_stack")) OnMainsStack();
  if (Is(how, "jumps_and_exits")) JumpsAndExits(argv[2]);
  if (Is(how, "deadlock")) Deadlock();
  if (Is(how, "deadlock_and_kill")) DeadlockAndKill();
  if (Is(how, "errors")) Errors();
  if (Is(how, "no_counter")) NoCounter();
  if (Is(how, "readers")) Readers();
  if (Is(how, "woken")) Woken(count);
  if (Is(how, "given_up")) GivenUp();
  if (Is(how, "forks")) Forks();
  if (Is(how, "vforks")) Vforks();
  if (Is(how, "storm")) Storm();
  if (Is(how, "handlers")) Handlers();
  return 0;
}
