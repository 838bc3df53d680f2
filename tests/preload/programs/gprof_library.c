// Its destructor works when libc's own profiler has ended already. And its _init is where that profiler began.
#include "tests/preload/programs/program.h"

WORK(library_work)
WORK(ending_work)

__attribute__((destructor)) static void End(void) { ending_work(200); }
