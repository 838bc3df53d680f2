// A program, or with -DLIBRARY a library, whose code lies in two segments far apart: `segments near MILLIS`, `segments far MILLIS`, and
// `segments hole MILLIS`, which makes code of its own in the hole between them. `segments library PATH HOW MILLIS` has a library do so.
#include <dlfcn.h>

#include "tests/preload/programs/program.h"

// The linker is told where that section goes.
__attribute__((section(".far_text"))) void far_work(long millis);
WORK(far_work)
WORK(near_work)

// What a JIT compiler does that wants to reach the program's functions: `loop: dec rdi; jnz loop; ret`.
void hole_work(long millis);
void hole_work(long millis) {
  static const unsigned char kCode[] = {0x48, 0xff, 0xcf, 0x75, 0xfb, 0xc3};
  uintptr_t middle = ((uintptr_t)near_work / 2 + (uintptr_t)far_work / 2) & ~(uintptr_t)0xfff;
  // The loader leaves nothing in the hole of a program, and inaccessible pages in that of a library.
#ifdef LIBRARY
  const int how = MAP_FIXED;
#else
  const int how = MAP_FIXED_NOREPLACE;
#endif
  void* code =
      mmap((void*)middle, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);
  REQUIRE(code == (void*)middle);
  memcpy(code, kCode, sizeof kCode);
  int64_t end = ThreadCpuNanos() + millis * 1000000;
  while (ThreadCpuNanos() < end) ((void (*)(long))code)(200000);
}

#ifndef LIBRARY
int main(int argc, char** argv) {
  REQUIRE(argc > 2);
  void (*work)(long) = Is(argv[1], "near") ? near_work : Is(argv[1], "far") ? far_work : hole_work;
  if (Is(argv[1], "library")) {
    REQUIRE(argc > 4);
    void* library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != NULL);
    char name[64];
    snprintf(name, sizeof name, "%s_work", argv[3]);
    work = (void (*)(long))dlsym(library, name);
    REQUIRE(work != NULL);
  }
  work(atol(argv[argc - 1]));
  return 0;
}
#endif
