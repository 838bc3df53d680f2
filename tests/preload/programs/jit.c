// A runtime that makes code, two functions of which one calls the other, and describes it for perf.
//
//   jit MS PREFIX none|map|old|foreign|linked|fifo|forks
//
// Says where it does so. PREFIX_asks for 1000000 bytes; then MS of CPU time in PREFIX_spins, called by PREFIX_calls; `forks`: in a child.
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/preload/programs/program.h"

static const unsigned char kSpins[] = {
    0x55, 0x48, 0x89, 0xe5,  // push %rbp; mov %rsp, %rbp
    0x48, 0xff, 0xcf,        // dec %rdi
    0x75, 0xfb,              // jne back to it
    0x5d, 0xc3,              // pop %rbp; ret
};
static const unsigned char kCalls[] = {
    0x48, 0x83, 0xec, 0x08,        // sub $8, %rsp: no frame pointer, as the trampolines of python3.12 -X perf
    0xe8, 0xb7, 0xff, 0xff, 0xff,  // call kSpins, which is at -64
    0x48, 0x83, 0xc4, 0x08, 0xc3,  // add $8, %rsp; ret
};

static const unsigned char kAsks[] = {
    0x48, 0x83, 0xec, 0x08, 0xff, 0xd7,  // sub $8, %rsp; call *%rdi
    0x48, 0x83, 0xc4, 0x08, 0xc3,        // add $8, %rsp; ret
};

static void* volatile g_kept;
static void Keep(void) { g_kept = malloc(1000000); }

static void Describe(const char* code, const char* prefix, const char* how) {
  char path[64], real[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
  printf("%s\n", path);
  snprintf(real, sizeof real, "perf-%d.real", getpid());
  unlink(path);
  if (Is(how, "none")) return;
  if (Is(how, "fifo")) {
    REQUIRE(mkfifo(path, 0600) == 0);
    return;
  }
  FILE* map = fopen(Is(how, "linked") ? real : path, "w");
  REQUIRE(map != NULL);
  fprintf(map, "%lx %zx %s_spins\n", (unsigned long)code, sizeof kSpins, prefix);
  fprintf(map, "0x%lx 0x%zx %s_calls\n", (unsigned long)code + 64, sizeof kCalls, prefix);
  fprintf(map, "%lx %zx %s_asks\n", (unsigned long)code + 128, sizeof kAsks, prefix);
  REQUIRE(fclose(map) == 0);
  if (Is(how, "linked")) {
    char target[256];
    REQUIRE(realpath(real, target) != NULL && symlink(target, path) == 0);
  }
  if (Is(how, "old")) REQUIRE(utimensat(AT_FDCWD, path, (struct timespec[2]){{1}, {1}}, 0) == 0);
  if (Is(how, "foreign")) REQUIRE(chown(path, 65534, 65534) == 0);
}

int main(int argc, char** argv) {
  REQUIRE(argc == 4);
  char* code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(code != MAP_FAILED);
  memcpy(code, kSpins, sizeof kSpins);
  memcpy(code + 64, kCalls, sizeof kCalls);
  memcpy(code + 128, kAsks, sizeof kAsks);
  Describe(code, argv[2], argv[3]);
  ((void (*)(void (*)(void)))(code + 128))(Keep);
  if (Is(argv[3], "forks") && fork() > 0) {
    wait(NULL);
    return 7;
  }
  void (*calls)(long) = (void (*)(long))(code + 64);
  struct timespec used;
  do {
    calls(1000000);
    REQUIRE(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
  } while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < atol(argv[1]));
  return 7;
}
