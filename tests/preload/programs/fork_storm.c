// A large process that forks often. A signal that arrives while fork copies page tables makes the kernel start the
// fork over; with a timer that fires faster than the copy takes, it never ends.
#include "tests/preload/programs/program.h"

WORK(work_between_forks)

int main(int argc, char** argv) {
  size_t size = (size_t)atol(argv[1]) << 20;
  int forks = atoi(argv[2]);
  char* heap = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(heap != MAP_FAILED);
  madvise(heap, size, MADV_NOHUGEPAGE);  // 4 KiB pages: the most page tables to copy
  for (size_t at = 0; at < size; at += 4096) heap[at] = 1;
  for (int i = 0; i < forks; ++i) {
    work_between_forks(5);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(i & 63);
    ExpectExit(child, i & 63);
  }
  printf("%d forks\n", forks);
  return 0;
}
