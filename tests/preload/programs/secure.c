// Prints whether the agent is in this process, and whether the kernel marked it as privileged (AT_SECURE).
#include <link.h>
#include <sys/auxv.h>

#include "tests/preload/programs/program.h"

WORK(secure_work)

int main(void) {
  char line[512];
  FILE* timers = fopen("/proc/self/timers", "r");
  int count = 0;
  while (timers != NULL && fgets(line, sizeof line, timers) != NULL) count += strncmp(line, "ID:", 3) == 0;
  secure_work(300);
  printf("secure %lu, timers %d, preload %s\n", getauxval(AT_SECURE), count,
         getenv("LD_PRELOAD") ? "set" : "unset");
  return 0;
}
