// Handlers on small alternate stacks, with our signal arriving while the program runs on them.
//
// `painted`: an alternate stack is filled with a pattern; the program works on its ordinary stack, so every CPU
// signal runs at the top of the empty alternate stack. (A large one: the agent exchanges small ones for one of its own.) What is no longer the pattern is what signal delivery and the
// agent's handler used together; the kernel's own frame (AT_MINSIGSTKSZ, measured with a handler of the program's own
// that does nothing) is taken off.
#include <spawn.h>
#include <sys/auxv.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

#include "tests/preload/programs/program.h"

void add_without_cfi(long count);

WORK(work_on_plain_stack)
WORK(work_in_handler)
WORK(work_in_nested_handler)

enum { kSize = 8192, kMapped = 64 << 10 };
static size_t g_size = kSize;
static unsigned char* g_stack;

static void Paint(void) { memset(g_stack, 0xa5, g_size); }
static size_t Used(void) {
  size_t untouched = 0;
  while (untouched < g_size && g_stack[untouched] == 0xa5) ++untouched;
  return g_size - untouched;
}

// `painted` in assembly whose caller must be searched for.
__attribute__((noinline)) static void work_without_cfi(int millis, size_t size) {
  volatile char* room = __builtin_alloca(size);  // its frame is found by rbp
  int64_t end = ThreadCpuNanos() + millis * 1000000LL;
  while (ThreadCpuNanos() < end) add_without_cfi(200000);
  room[0] = 1;
}

static void Nothing(int number) {}
static void Work(int number) { work_in_handler(200); }
static void WorkWithRoom(int number) {
  volatile char* room = __builtin_alloca(1500);
  room[0] = 1;
  work_in_handler(200);
  room[0] = 2;
}
static void Nested(int number) {
  if (number == SIGUSR1) {
    work_in_handler(100);
    raise(SIGUSR2);
    work_in_handler(100);
  } else {
    work_in_nested_handler(200);
  }
}
static void Crash(int number) {
  work_in_handler(100);
  int* volatile nowhere = (int*)8;
  *nowhere = 1;
}
// What a handler of crashes does: a debugger is started, or the program is begun anew.
static const char* g_how;
static void BeginAnother(int number) {
  char* const arguments[] = {"true", NULL};
  if (Is(g_how, "execve")) execve("/bin/true", arguments, environ);
  if (Is(g_how, "execvp")) execvp("true", arguments);
  for (int i = 0; i < 3 && Is(g_how, "vfork"); ++i) {
    pid_t another = vfork();
    if (another == 0) {
      execve("/nonexistent", arguments, environ);
      execve("/bin/true", arguments, environ);
      _exit(1);
    }
    ExpectExit(another, 0);
  }
  pid_t child = -1;
  if (Is(g_how, "posix_spawnp")) {
    REQUIRE(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
  } else {
    child = fork();
    if (child == 0) _exit(0);
  }
  ExpectExit(child, 0);
  _exit(0);
}
static void SwitchStack(int number) {
  // On the alternate stack the stack cannot be changed, only asked for.
  stack_t now;
  REQUIRE(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK) != 0);
  work_in_handler(200);
}

static void UseStack(void* memory, size_t size, int flags) {
  stack_t stack = {.ss_sp = memory, .ss_size = size, .ss_flags = flags};
  REQUIRE(sigaltstack(&stack, NULL) == 0);
  stack_t told;
  REQUIRE(sigaltstack(NULL, &told) == 0);
  REQUIRE(told.ss_sp == memory && told.ss_size == size && (unsigned)told.ss_flags == (unsigned)flags);
}

static void Handle(int number, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  REQUIRE(sigaction(number, &action, NULL) == 0);
}

static void* WorkOnSharedStack(void* stack) {
  UseStack(stack, kMapped, 0);
  work_on_plain_stack(500);
  return NULL;
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  if (Is(how, "shared")) {  // one stack for all threads, meant for the one that crashes
    void* shared = mmap(NULL, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t threads[8];
    for (int i = 0; i < 8; ++i) REQUIRE(pthread_create(&threads[i], NULL, WorkOnSharedStack, shared) == 0);
    for (int i = 0; i < 8; ++i) pthread_join(threads[i], NULL);
    return 0;
  }
  unsigned char* memory = mmap(NULL, kMapped + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_stack = memory + 4096;  // an unreadable page on both sides
  if (strncmp(how, "painted", 7) == 0) g_size = kMapped;
  REQUIRE(mprotect(g_stack, g_size, PROT_READ | PROT_WRITE) == 0);
  UseStack(g_stack, g_size, 0);

  if (strncmp(how, "painted", 7) == 0) {
    Handle(SIGUSR1, Nothing, SA_ONSTACK);
    Paint();
    raise(SIGUSR1);
    size_t kernel = Used();
    Paint();
    if (Is(how, "painted_search")) {
      work_without_cfi(500, 100);
    } else {
      work_on_plain_stack(500);
    }
    printf("%zu %zu\n", kernel, Used());
    return 0;
  }
  if (Is(how, "in_handler")) {
    Handle(SIGUSR1, Work, SA_ONSTACK);
    raise(SIGUSR1);
    work_on_plain_stack(100);
    return 0;
  }
  if (Is(how, "in_handler_with_room")) {  // of 8 KiB it needs 5 without us
    Handle(SIGUSR1, WorkWithRoom, SA_ONSTACK);
    raise(SIGUSR1);
    return 0;
  }
  if (Is(how, "begins")) {
    g_how = argv[2];
    Handle(SIGSEGV, BeginAnother, SA_ONSTACK);
    raise(SIGSEGV);
    return 98;
  }
  if (Is(how, "crash")) {  // the profile is written from a handler on what is left of 8 KiB
    Handle(SIGUSR1, Crash, SA_ONSTACK);
    raise(SIGUSR1);
    return 98;
  }
  if (Is(how,
         "tiny")) {  // legal by MINSIGSTKSZ, and no signal of the program's runs there; with AVX-512 none could
    UseStack(memory + 4096, 2048, 0);
    work_on_plain_stack(500);
    return 0;
  }
  if (Is(how, "nested")) {
    UseStack(malloc(64 << 10), 64 << 10, 0);
    Handle(SIGUSR1, Nested, SA_ONSTACK);
    Handle(SIGUSR2, Nested, SA_ONSTACK);
    raise(SIGUSR1);
    work_on_plain_stack(100);
    return 0;
  }
  if (Is(how, "autodisarm")) {  // the kernel forgets the alternate stack while a handler is on it
    UseStack(malloc(64 << 10), 64 << 10, SS_AUTODISARM);
    Handle(SIGUSR1, Work, SA_ONSTACK);
    raise(SIGUSR1);
    work_on_plain_stack(100);
    return 0;
  }
  if (Is(how, "switch")) {
    for (int i = 0; i < 50; ++i) {  // stacks that come and go under the timer
      void* other = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      UseStack(other, 16384, 0);
      work_on_plain_stack(3);
      stack_t off = {.ss_flags = SS_DISABLE};
      REQUIRE(sigaltstack(&off, NULL) == 0);
      munmap(other, 16384);
      work_on_plain_stack(3);
    }
    UseStack(malloc(64 << 10), 64 << 10, 0);
    Handle(SIGUSR1, SwitchStack, SA_ONSTACK);
    raise(SIGUSR1);
    return 0;
  }
  return 97;
}
