// What a lock costs: an uncontended pair of lock and unlock, or the throughput of threads that fight for one lock.
//
// usage: lock_cost pair|rwpair THREADS MILLIS     each thread has a lock of its own; writes nanoseconds a pair, the least of rounds;
//                                                 0 threads: main does it, and libc knows that it is alone
//        lock_cost contended THREADS MILLIS       one lock, some 100 ns under it and 400 ns between; writes pairs a second
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kMostThreads = 64, kPairs = 100000 };

static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stop;
static atomic_long pairs_done;
static const char* how;
static int64_t end_ns;

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void Work(int turns) {
  for (volatile int i = 0; i < turns;) i = i + 1;
}

struct Owner {
  _Alignas(128) pthread_mutex_t mutex;
  pthread_rwlock_t rwlock;
  double best;
};
static struct Owner owners[kMostThreads];

static void* Pairs(void* argument) {
  struct Owner* owner = argument;
  int rw = strcmp(how, "rwpair") == 0;
  owner->best = 1e9;
  while (Now() < end_ns) {
    int64_t start = Now();
    if (rw) {
      for (int i = 0; i < kPairs; ++i) {
        pthread_rwlock_rdlock(&owner->rwlock);
        pthread_rwlock_unlock(&owner->rwlock);
      }
    } else {
      for (int i = 0; i < kPairs; ++i) {
        pthread_mutex_lock(&owner->mutex);
        pthread_mutex_unlock(&owner->mutex);
      }
    }
    double ns = (double)(Now() - start) / kPairs;
    if (ns < owner->best) owner->best = ns;
  }
  return NULL;
}

static void* Fight(void* argument) {
  long pairs = 0;
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    pthread_mutex_lock(&shared);
    Work(50);
    pthread_mutex_unlock(&shared);
    Work(200);
    ++pairs;
  }
  atomic_fetch_add(&pairs_done, pairs);
  return argument;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  how = argv[1];
  int threads = atoi(argv[2]);
  long millis = atol(argv[3]);
  int fight = strcmp(how, "contended") == 0;
  pthread_t ids[kMostThreads];
  int64_t start = Now();
  end_ns = start + millis * 1000000;
  for (int i = 0; i < kMostThreads; ++i) {
    pthread_mutex_init(&owners[i].mutex, NULL);
    pthread_rwlock_init(&owners[i].rwlock, NULL);
  }
  for (int i = 0; i < threads; ++i) {
    if (pthread_create(&ids[i], NULL, fight ? Fight : Pairs, &owners[i]) != 0) return 1;
  }
  if (fight) {
    usleep((useconds_t)millis * 1000);
    atomic_store(&stop, 1);
  }
  if (threads == 0) Pairs(&owners[0]);
  double best = threads == 0 ? owners[0].best : 1e9;
  for (int i = 0; i < threads; ++i) {
    pthread_join(ids[i], NULL);
    if (owners[i].best < best) best = owners[i].best;
  }
  if (fight) {
    printf("%.0f\n", (double)atomic_load(&pairs_done) * 1e9 / (double)(Now() - start));
  } else {
    printf("%.3f\n", best);
  }
  return 0;
}
