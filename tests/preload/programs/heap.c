// Programs that know to the byte what they hold. Each prints what its own functions allocated and what of it is live:
// `NAME alloc_objects alloc_bytes inuse_objects inuse_bytes`; the tests compare that with the profile at rate 1.
#include <alloca.h>
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/time.h>

#include "tests/preload/programs/program.h"

WORK(heap_work)

static void* volatile g_keep;  // what the compiler cannot see through

static __attribute__((noinline)) void* Keep(void* block) {
  g_keep = block;
  return g_keep;
}
#define FRAME WHOLE_FUNCTION

// --- one after the other, as Go's TestMemoryProfiler

FRAME void persistent_small(void) {
  for (int i = 0; i < 32; ++i) Keep(malloc(32));
}
FRAME void transient_kib(void) {
  for (int i = 0; i < 1024; ++i) free(Keep(malloc(1024)));
}
FRAME void persistent_large(void) { Keep(malloc(2 << 20)); }
FRAME void transient_large(void) { free(Keep(malloc(2 << 20))); }
FRAME void zeroed(void) {
  unsigned char* block = Keep(calloc(3, 1000));
  for (int i = 0; i < 3000; ++i) REQUIRE(block[i] == 0);
}
FRAME void nothing_at_all(void) { Keep(malloc(0)); }
FRAME void grown_in_place(void) {
  void* block = Keep(malloc(100));
  REQUIRE(Keep(realloc(block, 104)) == block);  // the same chunk of 112 bytes
}
FRAME void grown_by_moving(void) {
  void* block = Keep(malloc(1000));
  Keep(malloc(16));  // in the way
  REQUIRE(Keep(realloc(block, 100000)) != block);
}
FRAME void freed_by_realloc(void) { REQUIRE(realloc(Keep(malloc(50)), 0) == NULL); }
FRAME void array_of(void) { Keep(reallocarray(Keep(reallocarray(NULL, 10, 10)), 10, 30)); }
FRAME void aligned(void) {
  void* block = NULL;
  REQUIRE(posix_memalign(&block, 4096, 100) == 0 && (uintptr_t)block % 4096 == 0);
  Keep(block);
  REQUIRE((uintptr_t)Keep(aligned_alloc(64, 128)) % 64 == 0);
  REQUIRE((uintptr_t)Keep(memalign(256, 300)) % 256 == 0);
  REQUIRE((uintptr_t)Keep(valloc(500)) % 4096 == 0);
  REQUIRE((uintptr_t)Keep(pvalloc(600)) % 4096 == 0);
}
FRAME void copied(void) { Keep(strdup("twelve bytes")); }

FRAME void Exact(void) {
  persistent_small();
  transient_kib();
  persistent_large();
  transient_large();
  zeroed();
  nothing_at_all();
  grown_in_place();
  grown_by_moving();
  freed_by_realloc();
  array_of();
  aligned();
  copied();
  Say("persistent_small 32 1024 32 1024\n"
      "transient_kib 1024 1048576 0 0\n"
      "persistent_large 1 2097152 1 2097152\n"
      "transient_large 1 2097152 0 0\n"
      "zeroed 1 3000 1 3000\n"
      "nothing_at_all 1 0 1 0\n"
      "grown_in_place 2 204 1 104\n"
      "grown_by_moving 3 101016 2 100016\n"
      "freed_by_realloc 1 50 0 0\n"
      "array_of 2 400 1 300\n"
      "aligned 5 1628 5 1628\n"
      "copied 1 13 1 13\n");
}

// --- many threads, frees anywhere

enum { kShared = 4096 };
typedef struct {
  size_t size;
} Header;  // at the start of each block, so that whoever frees it knows
static _Atomic(Header*) g_shared[kShared];
static atomic_ulong g_alloc_objects, g_alloc_bytes, g_free_objects, g_free_bytes;
static unsigned long g_calls;

static unsigned long Random(unsigned long* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

typedef struct {
  unsigned long objects, bytes, freed_objects, freed_bytes;
} Sums;

FRAME Header* storm_allocate(unsigned long how, size_t size, Sums* sums) {
  Header* block = NULL;
  void* aligned = NULL;
  switch (how % 8) {
    case 0:
      block = calloc(1, size);
      break;
    case 1:
      block = aligned_alloc(64, size = (size + 63) & ~(size_t)63);
      break;
    case 2:
      REQUIRE(posix_memalign(&aligned, 32, size) == 0);
      block = aligned;
      break;
    default:
      block = malloc(size);
  }
  REQUIRE(block != NULL);
  block->size = size;
  ++sums->objects;
  sums->bytes += size;
  return block;
}

FRAME Header* storm_reallocate(Header* block, size_t size, Sums* sums) {
  ++sums->freed_objects;
  sums->freed_bytes += block->size;
  block = realloc(block, size);
  REQUIRE(block != NULL);
  block->size = size;
  ++sums->objects;
  sums->bytes += size;
  return block;
}

FRAME void storm_free(Header* block, Sums* sums) {
  if (block == NULL) return;
  ++sums->freed_objects;
  sums->freed_bytes += block->size;
  free(block);
}

static void* Storm(void* seed) {
  unsigned long state = 88172645463325252UL + (uintptr_t)seed * 7919;
  Sums sums = {0};
  for (unsigned long i = 0; i < g_calls; ++i) {
    unsigned long draw = Random(&state);
    size_t size = sizeof(Header) + (draw >> 20) % (draw % 64 == 0 ? 200000 : 500);
    _Atomic(Header*)* place = &g_shared[(draw >> 40) % kShared];
    Header* old = atomic_exchange(place, NULL);  // of whichever thread
    Header* now = NULL;
    if (old != NULL && draw % 5 == 0) {
      now = storm_reallocate(old, size, &sums);
    } else {
      storm_free(old, &sums);
      if (draw % 3 != 0) now = storm_allocate(draw >> 8, size, &sums);
    }
    storm_free(atomic_exchange(place, now), &sums);
  }
  atomic_fetch_add(&g_alloc_objects, sums.objects);
  atomic_fetch_add(&g_alloc_bytes, sums.bytes);
  atomic_fetch_add(&g_free_objects, sums.freed_objects);
  atomic_fetch_add(&g_free_bytes, sums.freed_bytes);
  return NULL;
}

static void RunStorm(long threads, unsigned long calls) {
  g_calls = calls;
  pthread_t ids[64];
  for (long i = 0; i < threads; ++i) REQUIRE(pthread_create(&ids[i], NULL, Storm, (void*)(i + 1)) == 0);
  for (long i = 0; i < threads; ++i) pthread_join(ids[i], NULL);
  char line[200];
  snprintf(line, sizeof line, "Storm %lu %lu %lu %lu\n", g_alloc_objects, g_alloc_bytes,
           g_alloc_objects - g_free_objects, g_alloc_bytes - g_free_bytes);
  Say(line);
}

// --- depth

FRAME int descend(int depth) {
  if (depth == 0) {
    Keep(malloc(64));
    return 1;
  }
  return descend(depth - 1) + 1;
}

// --- a small stack, used to the last KiB

FRAME static void* OnSmallStack(void* unused) {
  pthread_attr_t attributes;
  void* low;
  size_t size;
  REQUIRE(pthread_getattr_np(pthread_self(), &attributes) == 0);
  REQUIRE(pthread_attr_getstack(&attributes, &low, &size) == 0);
  char here;
  size_t left = (size_t)(&here - (char*)low);
  volatile char* all = alloca(left - 6000);
  all[0] = 1;
  for (int i = 0; i < 200; ++i) free(Keep(malloc(48)));
  pthread_attr_destroy(&attributes);
  return NULL;
}

// --- a handler that allocates

FRAME static void Allocate(int signo) {
  free(Keep(malloc(24)));
  g_keep = malloc(8);
}

// --- the end

static void* g_of_the_end;
static void __attribute__((destructor)) AtTheVeryEnd(void) {
  if (g_of_the_end == NULL) return;
  free(g_of_the_end);
  for (int i = 0; i < 1000; ++i) free(Keep(malloc(100)));
}
FRAME static void FreeValue(void* value) {
  for (int i = 0; i < 10; ++i) free(Keep(malloc(64)));
  free(value);
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  if (Is(how, "exact")) {
    Exact();
  } else if (Is(how, "storm")) {
    RunStorm(atol(argv[2]), strtoul(argv[3], NULL, 10));
  } else if (Is(how, "depth")) {
    descend(atoi(argv[2]));
  } else if (Is(how, "peak")) {  // 40 MB in the middle of its life, 1 MB at its end
    void* blocks[40];
    for (int i = 0; i < 40; ++i) blocks[i] = Keep(malloc(1000000));
    for (int i = 0; i < 39; ++i) free(blocks[i]);
    for (int i = 0; i < 10; ++i) Keep(malloc(1000));
  } else if (Is(how, "realloc_fails")) {
    void* block = Keep(malloc(4000));
    REQUIRE(realloc(block, (size_t)1 << 46) == NULL && errno == ENOMEM);
    memset(block, 1, 4000);
    errno = 0;
    REQUIRE(malloc((size_t)1 << 62) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(calloc((size_t)1 << 40, (size_t)1 << 40) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(reallocarray(block, (size_t)1 << 40, (size_t)1 << 40) == NULL && errno == ENOMEM);
    void* aligned = (void*)1;
    REQUIRE(posix_memalign(&aligned, 3, 100) == EINVAL && aligned == (void*)1);
    REQUIRE(posix_memalign(&aligned, 64, (size_t)1 << 62) == ENOMEM);
  } else if (Is(how, "handler")) {  // with an allocator behind us that a handler may use
    struct sigaction action = {.sa_handler = Allocate, .sa_flags = SA_RESTART};
    REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = {{0, 300}, {0, 300}};
    REQUIRE(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 200000; ++i) free(Keep(malloc((size_t)(i % 300))));
  } else if (Is(how, "fork")) {  // in the middle of storms; the child frees what its parent made
    g_calls = 1UL << 40;
    pthread_t ids[2];
    for (long i = 0; i < 2; ++i) REQUIRE(pthread_create(&ids[i], NULL, Storm, (void*)(i + 1)) == 0);
    void* blocks[100];
    for (int round = 0; round < atoi(argv[2]); ++round) {
      for (int i = 0; i < 100; ++i) blocks[i] = Keep(malloc(40));
      pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        for (int i = 0; i < 100; ++i) free(blocks[i]);
        for (int i = 0; i < 1000; ++i) free(Keep(malloc(128)));
        persistent_small();
        exit(3);
      }
      for (int i = 0; i < 100; ++i) free(blocks[i]);
      ExpectExit(child, 3);
    }
    exit(0);
  } else if (Is(how, "small_stacks")) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    for (size_t size = 16384; size <= 65536; size *= 2) {
      REQUIRE(pthread_attr_setstacksize(&attributes, size) == 0);
      pthread_t thread;
      REQUIRE(pthread_create(&thread, &attributes, OnSmallStack, NULL) == 0);
      pthread_join(thread, NULL);
    }
  } else if (Is(how, "thread_values")) {
    pthread_key_t key;
    REQUIRE(pthread_key_create(&key, FreeValue) == 0);
    for (int i = 0; i < 50; ++i) {
      pthread_t thread;
      REQUIRE(pthread_setspecific(key, NULL) == 0);
      REQUIRE(pthread_create(&thread, NULL, (void* (*)(void*))(uintptr_t)pthread_exit, NULL) == 0);
      pthread_join(thread, NULL);
    }
    pthread_setspecific(key, malloc(10));
    pthread_exit(NULL);
  } else if (Is(how, "after_the_end")) {
    g_of_the_end = malloc(77);
  } else if (Is(how, "dlopen")) {  // argv[2]: a library; its allocations stay when it is gone
    for (int i = 0; i < 50; ++i) {
      void* library = dlopen(argv[2], RTLD_NOW);
      REQUIRE(library != NULL);
      void (*allocate)(int) = (void (*)(int))(uintptr_t)dlsym(library, "library_allocates");
      REQUIRE(allocate != NULL);
      allocate(i);
      REQUIRE(dlclose(library) == 0);
    }
  } else if (Is(how, "work")) {  // works on and is signalled
    persistent_small();
    Say("ready\n");
    for (int i = 0; i < atoi(argv[2]) / 10; ++i) {
      heap_work(10);
      free(Keep(malloc(4000)));
    }
    return 5;
  } else if (Is(how, "sleep")) {  // one long system call: must not come back early
    persistent_small();
    Say("ready\n");
    struct timespec wanted = {1, 500000000};
    REQUIRE(nanosleep(&wanted, NULL) == 0);
    Say("slept\n");
  } else if (Is(how, "signalled_child")) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      raise(SIGUSR2);
      exit(3);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    Say(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR2 ? "died\n" : "lived\n");
  } else if (Is(how, "ignores")) {  // the dump signal, and then handles it
    REQUIRE(signal(SIGUSR2, SIG_IGN) != SIG_ERR);
    raise(SIGUSR2);
    REQUIRE(signal(SIGUSR2, Allocate) == SIG_IGN);
    raise(SIGUSR2);
  } else if (Is(how, "own_handler")) {
    REQUIRE(signal(SIGUSR2, Allocate) != SIG_ERR);
    REQUIRE(signal(SIGUSR2, Allocate) == Allocate);
    raise(SIGUSR2);
  } else {
    return 98;
  }
  return 0;
}
