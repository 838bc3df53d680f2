// Leaves signal handlers by longjmp, under the timer: the frames below the jump are gone without having returned.
#include <setjmp.h>

#include "tests/preload/programs/program.h"

WORK(work_in_handler)
WORK(work_after_jump)

static sigjmp_buf g_back;

static void JumpOut(int number) {
  work_in_handler(1);
  siglongjmp(g_back, 1);
}

int main(int argc, char** argv) {
  char* stack = malloc(16384);
  stack_t alternate = {.ss_sp = stack, .ss_size = 16384};
  REQUIRE(sigaltstack(&alternate, NULL) == 0);
  struct sigaction action = {.sa_handler = JumpOut, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
  int jumps = 0;
  for (int i = 0; i < 200; ++i) {
    if (sigsetjmp(g_back, 1) == 0) {
      if (i % 2 == 0) {
        raise(SIGUSR1);
      } else {
        int* volatile nowhere = (int*)16;  // as virtual machines test for null
        *nowhere = 1;
      }
      return 98;
    }
    ++jumps;
    work_after_jump(1);
  }
  // Jumping out of our own handler's victim: the timer's signal must still be deliverable.
  work_after_jump(200);
  printf("%d jumps\n", jumps);
  return 0;
}
