// Loads libraries in the ways that plug-in hosts do.
#include <dlfcn.h>

#include "tests/preload/programs/program.h"

WORK(host_work)

static void* LoadAndClose(void* path) {
  for (int i = 0; i < 60; ++i) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(handle != NULL);
    void (*work)(long) = (void (*)(long))dlsym(handle, "victim_work");
    REQUIRE(work != NULL);
    work(2);
    dlclose(handle);
  }
  return NULL;
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  if (Is(how, "open")) {  // a constructor that works, or crashes with the loader's lock held
    host_work(200);
    REQUIRE(dlopen(argv[2], RTLD_NOW) != NULL);
    return 7;
  }
  if (Is(how, "opened_before")) {  // by a constructor, and closed here; another library comes in its place
    void** opened = dlsym(RTLD_DEFAULT, "opened_before");
    REQUIRE(opened != NULL && *opened != NULL);
    void (*first)(long) = (void (*)(long))dlsym(*opened, "first_library");
    REQUIRE(first != NULL);
    first(200);
    REQUIRE(dlclose(*opened) == 0);
    void* handle = dlopen(argv[2], RTLD_NOW);
    REQUIRE(handle != NULL);
    void (*second)(long) = (void (*)(long))dlsym(handle, "second_library");
    REQUIRE(second == first);
    second(200);
    return 7;
  }
  if (Is(how, "namespace")) {  // a second libc in the process, with a pthread_create that nobody interposes
    void* handle = dlmopen(LM_ID_NEWLM, argv[2], RTLD_NOW);
    REQUIRE(handle != NULL);
    void (*work)(long) = (void (*)(long))dlsym(handle, "victim_work");
    REQUIRE(work != NULL);
    work(300);
    return 7;
  }
  if (Is(how, "threads")) {  // two threads load and close different libraries while they are sampled
    pthread_t a, b;
    REQUIRE(pthread_create(&a, NULL, LoadAndClose, argv[2]) == 0 &&
            pthread_create(&b, NULL, LoadAndClose, argv[3]) == 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return 7;
  }
  return 97;
}
