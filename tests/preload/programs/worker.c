// The plain program of many tests: `worker MILLIS [STATUS]` works that long and exits with the status.
#include "tests/preload/programs/program.h"

WORK(app_work)

int main(int argc, char** argv) {
  app_work(argc > 1 ? atol(argv[1]) : 300);
  return argc > 2 ? atoi(argv[2]) : 0;
}
