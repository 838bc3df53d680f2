// Every way to wait, each with a wait and a release that the program itself has timed.
//
// usage: waits KIND [ROUNDS [MILLIS]]
// In each round a thread waits in WaitHere, below which stands the call of that kind, until ReleaseHere ends it MILLIS later.
// Writes `WAITED CHARGED`: nanoseconds, summed over the rounds; how long the waits took, and how much of that was over when
// the release was called.
#include <limits.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <threads.h>

#include "tests/preload/programs/program.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static mtx_t c11_mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static cnd_t c11_condition;
static bool ready;
static pthread_barrier_t barrier;
static sem_t semaphore;
static pthread_t sleeper;
static thrd_t c11_sleeper;
static atomic_bool may_end;
static int futex_word;

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
static struct timespec In10s(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_sec += 10;
  return time;
}
static void Sleep(long millis) {
  struct timespec time = {millis / 1000, millis % 1000 * 1000000};
  nanosleep(&time, NULL);
}

// mutex
static void MakeMutex(int type, int protocol, int robust) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutexattr_setprotocol(&attributes, protocol);
  pthread_mutexattr_setrobust(&attributes, robust);
  REQUIRE(pthread_mutex_init(&mutex, &attributes) == 0);
}
static void MakeRecursive(void) {
  MakeMutex(PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
}
static void MakeErrorcheck(void) {
  MakeMutex(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
}
static void MakeAdaptive(void) {
  MakeMutex(PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
}
static void MakeRobust(void) { MakeMutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST); }
static void MakeInheriting(void) {
  MakeMutex(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
}
static void LockMutex(void) { REQUIRE(pthread_mutex_lock(&mutex) == 0); }
static void TrylockMutex(void) { REQUIRE(pthread_mutex_trylock(&mutex) == 0); }
static void LockMutexTwice(void) {
  LockMutex();
  LockMutex();
}
static void TimedlockMutex(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(pthread_mutex_timedlock(&mutex, &deadline) == 0);
}
static void ClocklockMutex(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  REQUIRE(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &deadline) == 0);
}
static void UnlockMutex(void) { REQUIRE(pthread_mutex_unlock(&mutex) == 0); }
// Releases nothing: whoever is charged for it did not end a wait.
WHOLE_FUNCTION void UnlockInnerLevel(void) { UnlockMutex(); }
static void UnlockMutexTwice(void) {
  UnlockInnerLevel();
  UnlockMutex();
}

// rwlock
static void WriteLock(void) { REQUIRE(pthread_rwlock_wrlock(&rwlock) == 0); }
static void ReadLock(void) { REQUIRE(pthread_rwlock_rdlock(&rwlock) == 0); }
static void TimedWriteLock(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(pthread_rwlock_timedwrlock(&rwlock, &deadline) == 0);
}
static void TimedReadLock(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(pthread_rwlock_timedrdlock(&rwlock, &deadline) == 0);
}
static void ClockWriteLock(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  REQUIRE(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &deadline) == 0);
}
static void ClockReadLock(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  REQUIRE(pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &deadline) == 0);
}
static void UnlockRwlock(void) { REQUIRE(pthread_rwlock_unlock(&rwlock) == 0); }

// spin lock, C11
static void MakeSpin(void) { pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE); }
static void LockSpin(void) { REQUIRE(pthread_spin_lock(&spin) == 0); }
static void UnlockSpin(void) { REQUIRE(pthread_spin_unlock(&spin) == 0); }
static void MakeC11(void) {
  REQUIRE(mtx_init(&c11_mutex, mtx_timed | mtx_recursive) == thrd_success);
  REQUIRE(cnd_init(&c11_condition) == thrd_success);
}
static void LockC11(void) { REQUIRE(mtx_lock(&c11_mutex) == thrd_success); }
static void TimedlockC11(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(mtx_timedlock(&c11_mutex, &deadline) == thrd_success);
}
static void UnlockC11(void) { REQUIRE(mtx_unlock(&c11_mutex) == thrd_success); }

// condition variables: the waiter holds the mutex, and waits once
static void WaitCondition(void) {
  LockMutex();
  while (!ready) pthread_cond_wait(&condition, &mutex);
  ready = false;
  UnlockMutex();
}
static void TimedwaitCondition(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  LockMutex();
  while (!ready) pthread_cond_timedwait(&condition, &mutex, &deadline);
  ready = false;
  UnlockMutex();
}
static void ClockwaitCondition(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  LockMutex();
  while (!ready) pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &deadline);
  ready = false;
  UnlockMutex();
}
static void SignalCondition(void) {
  LockMutex();
  ready = true;
  UnlockMutex();
  pthread_cond_signal(&condition);
}
static void WaitC11Condition(void) {
  LockC11();
  while (!ready) cnd_wait(&c11_condition, &c11_mutex);
  ready = false;
  UnlockC11();
}
static void TimedwaitC11Condition(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  LockC11();
  while (!ready) cnd_timedwait(&c11_condition, &c11_mutex, &deadline);
  ready = false;
  UnlockC11();
}
static void SignalC11Condition(void) {
  LockC11();
  ready = true;
  UnlockC11();
  cnd_broadcast(&c11_condition);
}

// barrier, semaphore
static void MakeBarrier(void) { pthread_barrier_init(&barrier, NULL, 2); }
static void WaitBarrier(void) {
  int result = pthread_barrier_wait(&barrier);
  REQUIRE(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
}
static void WaitSemaphore(void) { REQUIRE(sem_wait(&semaphore) == 0); }
static void TimedwaitSemaphore(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(sem_timedwait(&semaphore, &deadline) == 0);
}
static void ClockwaitSemaphore(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  REQUIRE(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &deadline) == 0);
}
static void Post(void) { REQUIRE(sem_post(&semaphore) == 0); }

// the end of a thread
static void* SleepUntilReleased(void* result) {
  while (!atomic_load(&may_end)) Sleep(1);
  return result;
}
static int SleepUntilReleasedC11(void* result) {
  SleepUntilReleased(NULL);
  return (int)(intptr_t)result;
}
static void StartSleeper(void) {
  atomic_store(&may_end, false);
  REQUIRE(pthread_create(&sleeper, NULL, SleepUntilReleased, &sleeper) == 0);
}
static void StartC11Sleeper(void) {
  atomic_store(&may_end, false);
  REQUIRE(thrd_create(&c11_sleeper, SleepUntilReleasedC11, (void*)42) == thrd_success);
}
static void LetItEnd(void) { atomic_store(&may_end, true); }
static void Join(void) {
  void* result = NULL;
  REQUIRE(pthread_join(sleeper, &result) == 0 && result == &sleeper);
}
static void TimedJoin(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  REQUIRE(pthread_timedjoin_np(sleeper, NULL, &deadline) == 0);
}
static void ClockJoin(void) {
  struct timespec deadline = In10s(CLOCK_MONOTONIC);
  REQUIRE(pthread_clockjoin_np(sleeper, NULL, CLOCK_MONOTONIC, &deadline) == 0);
}
static void JoinC11(void) {
  int result = 0;
  REQUIRE(thrd_join(c11_sleeper, &result) == thrd_success && result == 42);
}

// futex, by its number
static void WaitFutex(void) {
  errno = 0;
  while (__atomic_load_n(&futex_word, __ATOMIC_ACQUIRE) == 0) {
    syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
  }
  __atomic_store_n(&futex_word, 0, __ATOMIC_RELEASE);
}
static void WaitFutexBitset(void) {
  struct timespec deadline = In10s(CLOCK_REALTIME);
  while (__atomic_load_n(&futex_word, __ATOMIC_ACQUIRE) == 0) {
    syscall(SYS_futex, &futex_word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, 0,
            &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
  }
  __atomic_store_n(&futex_word, 0, __ATOMIC_RELEASE);
}
static void WaitFutexes(void) {
  static int other_word;
  struct Waiter {  // struct futex_waitv, Linux 5.16
    uint64_t value, address;
    uint32_t flags, reserved;
  } waiters[] = {{0, (uintptr_t)&other_word, 2 | FUTEX_PRIVATE_FLAG, 0},
                 {0, (uintptr_t)&futex_word, 2 | FUTEX_PRIVATE_FLAG, 0}};
  while (__atomic_load_n(&futex_word, __ATOMIC_ACQUIRE) == 0) {
    syscall(449 /* futex_waitv */, waiters, 2, 0, NULL, CLOCK_MONOTONIC);
  }
  __atomic_store_n(&futex_word, 0, __ATOMIC_RELEASE);
}
static void WakeFutex(void) {
  __atomic_store_n(&futex_word, 1, __ATOMIC_RELEASE);
  syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void Nothing(void) {}

struct Kind {
  const char* name;
  void (*make)(void);     // once
  void (*hold)(void);     // by the main thread, before the wait
  void (*wait)(void);     // by the waiter
  void (*release)(void);  // by the main thread
  void (*after)(void);    // by the waiter, that has the lock now
};
static const struct Kind kinds[] = {
    {"mutex_lock", Nothing, LockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"mutex_trylock", Nothing, TrylockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"mutex_timedlock", Nothing, LockMutex, TimedlockMutex, UnlockMutex, UnlockMutex},
    {"mutex_clocklock", Nothing, LockMutex, ClocklockMutex, UnlockMutex, UnlockMutex},
    {"recursive", MakeRecursive, LockMutexTwice, LockMutexTwice, UnlockMutexTwice, UnlockMutexTwice},
    {"errorcheck", MakeErrorcheck, LockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"adaptive", MakeAdaptive, LockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"robust", MakeRobust, LockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"inheriting", MakeInheriting, LockMutex, LockMutex, UnlockMutex, UnlockMutex},
    {"wrlock", Nothing, WriteLock, WriteLock, UnlockRwlock, UnlockRwlock},
    {"wrlock_after_reader", Nothing, ReadLock, WriteLock, UnlockRwlock, UnlockRwlock},
    {"rdlock", Nothing, WriteLock, ReadLock, UnlockRwlock, UnlockRwlock},
    {"timedwrlock", Nothing, WriteLock, TimedWriteLock, UnlockRwlock, UnlockRwlock},
    {"timedrdlock", Nothing, WriteLock, TimedReadLock, UnlockRwlock, UnlockRwlock},
    {"clockwrlock", Nothing, WriteLock, ClockWriteLock, UnlockRwlock, UnlockRwlock},
    {"clockrdlock", Nothing, WriteLock, ClockReadLock, UnlockRwlock, UnlockRwlock},
    {"spin_lock", MakeSpin, LockSpin, LockSpin, UnlockSpin, UnlockSpin},
    {"mtx_lock", MakeC11, LockC11, LockC11, UnlockC11, UnlockC11},
    {"mtx_timedlock", MakeC11, LockC11, TimedlockC11, UnlockC11, UnlockC11},
    {"cond_wait", Nothing, Nothing, WaitCondition, SignalCondition, Nothing},
    {"cond_timedwait", Nothing, Nothing, TimedwaitCondition, SignalCondition, Nothing},
    {"cond_clockwait", Nothing, Nothing, ClockwaitCondition, SignalCondition, Nothing},
    {"cnd_wait", MakeC11, Nothing, WaitC11Condition, SignalC11Condition, Nothing},
    {"cnd_timedwait", MakeC11, Nothing, TimedwaitC11Condition, SignalC11Condition, Nothing},
    {"barrier_wait", MakeBarrier, Nothing, WaitBarrier, WaitBarrier, Nothing},
    {"sem_wait", Nothing, Nothing, WaitSemaphore, Post, Nothing},
    {"sem_timedwait", Nothing, Nothing, TimedwaitSemaphore, Post, Nothing},
    {"sem_clockwait", Nothing, Nothing, ClockwaitSemaphore, Post, Nothing},
    {"join", Nothing, StartSleeper, Join, LetItEnd, Nothing},
    {"timedjoin", Nothing, StartSleeper, TimedJoin, LetItEnd, Nothing},
    {"clockjoin", Nothing, StartSleeper, ClockJoin, LetItEnd, Nothing},
    {"thrd_join", Nothing, StartC11Sleeper, JoinC11, LetItEnd, Nothing},
    {"futex", Nothing, Nothing, WaitFutex, WakeFutex, Nothing},
    {"futex_bitset", Nothing, Nothing, WaitFutexBitset, WakeFutex, Nothing},
    {"futex_waitv", Nothing, Nothing, WaitFutexes, WakeFutex, Nothing},
};

static atomic_int_least64_t arrived_at;
static int64_t waited;

WHOLE_FUNCTION void WaitHere(const struct Kind* kind) {
  atomic_store(&arrived_at, Now());
  kind->wait();
  waited += Now() - atomic_load(&arrived_at);
}

WHOLE_FUNCTION void ReleaseHere(const struct Kind* kind) { kind->release(); }

static void* Waiter(void* argument) {
  const struct Kind* kind = argument;
  WaitHere(kind);
  kind->after();
  return NULL;
}

int main(int argc, char** argv) {
  long rounds = argc > 2 ? atol(argv[2]) : 2;
  long millis = argc > 3 ? atol(argv[3]) : 60;
  const struct Kind* kind = kinds;
  while (kind < kinds + sizeof kinds / sizeof kinds[0] && !Is(argv[1], kind->name)) ++kind;
  REQUIRE(kind < kinds + sizeof kinds / sizeof kinds[0]);
  REQUIRE(sem_init(&semaphore, 0, 0) == 0);
  kind->make();
  int64_t charged = 0;
  for (long i = 0; i < rounds; ++i) {
    atomic_store(&arrived_at, 0);
    kind->hold();
    pthread_t waiter;
    REQUIRE(pthread_create(&waiter, NULL, Waiter, (void*)kind) == 0);
    while (atomic_load(&arrived_at) == 0) Sleep(1);
    Sleep(millis);
    charged += Now() - atomic_load(&arrived_at);
    ReleaseHere(kind);
    // Not joined before it is known to have ended: that would be a wait too.
    while (pthread_tryjoin_np(waiter, NULL) != 0) Sleep(1);
  }
  printf("%lld %lld\n", (long long)waited, (long long)charged);
  return 0;
}
