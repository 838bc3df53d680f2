// A library whose constructor, which runs before the agent's, opens another one. Who finds it may close that.
#include <dlfcn.h>
#include <stdlib.h>

void* opened_before;

__attribute__((constructor)) static void Open(void) {
  const char* library = getenv("LIBRARY_TO_OPEN");
  if (library != NULL) opened_before = dlopen(library, RTLD_NOW | RTLD_LOCAL);
}
