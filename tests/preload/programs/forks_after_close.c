// Forks when libraries were closed.
#include <dlfcn.h>

#include "tests/preload/programs/program.h"

static void* Open(const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(handle != NULL);
  return handle;
}

static void Work(void* handle, long millis) {
  void (*work)(long) = (void (*)(long))dlsym(handle, "first_library");
  REQUIRE(work != NULL);
  work(millis);
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  void* handle = NULL;
  if (Is(how, "reopens")) {  // a server that reloads: its workers have the modules anew, where they were
    handle = Open(argv[2]);
    Work(handle, 100);
    REQUIRE(dlclose(handle) == 0);
    handle = Open(argv[2]);
  }
  if (Is(how, "other")) {  // another library was closed
    handle = Open(argv[2]);
    Work(handle, 100);
    REQUIRE(dlclose(Open(argv[3])) == 0);
  }
  if (handle != NULL) {
    pid_t pid = fork();
    if (pid == 0) {
      Work(handle, 200);
      exit(0);
    }
    ExpectExit(pid, 0);
    return 7;
  }
  return 97;
}
