// What locks look like inside while they are held, by whom they say that they are, and what libc's other functions make of that:
// the same with and without us.
#include <limits.h>
#include <threads.h>

#include "tests/preload/programs/program.h"

static const char* where;

static const char* Who(int owner) {
  if (owner == 0) return "nobody";
  return owner == gettid() ? "this thread" : "another thread";
}

static void TellMutex(const char* what, const pthread_mutex_t* mutex) {
  printf("%s, %s: word %d, held by %s, users %u, count %u, kind %d\n", where, what, mutex->__data.__lock,
         Who(mutex->__data.__owner), mutex->__data.__nusers, mutex->__data.__count, mutex->__data.__kind);
}

static void TellRwlock(const char* what, const pthread_rwlock_t* lock) {
  printf("%s, %s: readers %u, writers %u, phase %u, written by %s\n", where, what, lock->__data.__readers,
         lock->__data.__writers, lock->__data.__wrphase_futex, Who(lock->__data.__cur_writer));
}

static struct timespec Soon(void) {
  struct timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec = 0;
  return soon;
}

enum { kStatic = -1 };

static void Mutexes(int kind) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  if (kind != kStatic) {
    pthread_mutexattr_settype(&attributes, kind);
    pthread_mutex_init(&mutex, &attributes);
  }
  REQUIRE(pthread_mutex_lock(&mutex) == 0);
  TellMutex("lock", &mutex);
  printf("trylock %d, destroy %d\n", pthread_mutex_trylock(&mutex), pthread_mutex_destroy(&mutex));
  struct timespec soon = Soon();
  printf("timedlock %d\n", pthread_mutex_timedlock(&mutex, &soon));
  TellMutex("after timedlock", &mutex);
  while (pthread_mutex_unlock(&mutex) == 0 && mutex.__data.__nusers == 1) {
  }
  TellMutex("unlock", &mutex);
  REQUIRE(pthread_mutex_timedlock(&mutex, &soon) == 0);
  TellMutex("timedlock", &mutex);
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  printf("condition %d\n", pthread_cond_timedwait(&condition, &mutex, &soon));
  TellMutex("condition", &mutex);
  REQUIRE(pthread_mutex_unlock(&mutex) == 0);
  REQUIRE(pthread_mutex_clocklock(&mutex, CLOCK_REALTIME, &soon) == 0);
  TellMutex("clocklock", &mutex);
  if (kind == PTHREAD_MUTEX_RECURSIVE) {
    mutex.__data.__count = UINT_MAX - 1;
    printf("lock %d", pthread_mutex_lock(&mutex));
    printf(" %d\n", pthread_mutex_lock(&mutex));
    TellMutex("as often as can be", &mutex);
    mutex.__data.__count = 2;
    REQUIRE(pthread_mutex_unlock(&mutex) == 0);
  }
  REQUIRE(pthread_mutex_unlock(&mutex) == 0);
  printf("destroy %d\n", pthread_mutex_destroy(&mutex));
}

static void C11(void) {
  mtx_t mutex;
  REQUIRE(mtx_init(&mutex, mtx_plain) == thrd_success && mtx_lock(&mutex) == thrd_success);
  TellMutex("C11", (pthread_mutex_t*)&mutex);
  REQUIRE(mtx_trylock(&mutex) == thrd_busy && mtx_unlock(&mutex) == thrd_success);
  TellMutex("C11 unlock", (pthread_mutex_t*)&mutex);
}

static void Rwlocks(int kind) {
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  pthread_rwlockattr_setkind_np(&attributes, kind);
  pthread_rwlock_t lock;
  pthread_rwlock_init(&lock, &attributes);
  struct timespec soon = Soon();
  for (int i = 0; i < 2; ++i) {  // after a writer the word is not what it was
    REQUIRE(pthread_rwlock_rdlock(&lock) == 0);
    TellRwlock("rdlock", &lock);
    REQUIRE(pthread_rwlock_timedrdlock(&lock, &soon) == 0);
    TellRwlock("timedrdlock", &lock);
    printf("trywrlock %d, timedwrlock %d\n", pthread_rwlock_trywrlock(&lock),
           pthread_rwlock_timedwrlock(&lock, &soon));
    REQUIRE(pthread_rwlock_unlock(&lock) == 0 && pthread_rwlock_unlock(&lock) == 0);
    TellRwlock("unlock", &lock);
    REQUIRE(pthread_rwlock_wrlock(&lock) == 0);
    TellRwlock("wrlock", &lock);
    printf("rdlock %d, tryrdlock %d\n", pthread_rwlock_rdlock(&lock), pthread_rwlock_tryrdlock(&lock));
    REQUIRE(pthread_rwlock_unlock(&lock) == 0);
    TellRwlock("write unlock", &lock);
  }
  // As many readers as there can be.
  lock.__data.__readers = 0x7ffffff0;
  printf("rdlock %d", pthread_rwlock_rdlock(&lock));
  printf(" %d\n", pthread_rwlock_rdlock(&lock));
}

static void All(const char* place) {
  where = place;
  for (int i = 0; i < 2; ++i) {  // what is found out about a thread at first
    const int kinds[] = {kStatic, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ADAPTIVE_NP};
    for (int k = 0; k < 4; ++k) Mutexes(kinds[k]);
  }
  Mutexes(PTHREAD_MUTEX_ERRORCHECK);
  C11();
  Rwlocks(PTHREAD_RWLOCK_PREFER_READER_NP);
  Rwlocks(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  fflush(stdout);
}

static void* Thread(void* place) {
  All(place);
  return NULL;
}

static void InThread(const char* place) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, Thread, (void*)place) == 0 && pthread_join(thread, NULL) == 0);
}

static void InChild(pid_t child, const char* place) {
  REQUIRE(child >= 0);
  if (child == 0) {
    All(place);
    InThread("a thread of the child");
    _exit(0);
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

// As chromium's zygote: to libc, a clone is still its parent, until it writes into libc's note of the thread who it is.
static int TellLibc(void* unused) {
  (void)unused;
  All("a clone");
  int* note = (int*)((char*)pthread_self() + 0x2d0);
  REQUIRE(*note == getppid());
  *note = gettid();
  All("a clone that told libc");
  _exit(0);
}

static char clone_stack[1 << 18] __attribute__((aligned(16)));

int main(void) {
  All("alone");
  pid_t cloned = clone(TellLibc, clone_stack + sizeof clone_stack, SIGCHLD, NULL);
  int status;
  REQUIRE(cloned > 0 && waitpid(cloned, &status, 0) == cloned && status == 0);
  InChild(fork(), "a child of one thread");
  InThread("a thread");
  All("with threads");
  InChild(fork(), "a child of several");
  InChild(_Fork(), "a child of _Fork");
  return 0;
}
