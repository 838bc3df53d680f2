// Forks when libraries were closed, by the program or by libc itself, or are just being closed.
#include <dlfcn.h>
#include <iconv.h>

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

static bool Convert(const char* to) {
  iconv_t converter = iconv_open(to, "UTF-8");
  return converter != (iconv_t)-1 && iconv_close(converter) == 0;
}

static void* OpenAndClose(void* library) {
  for (;;) {
    void* handle = Open(library);
    Work(handle, 0);
    dlclose(handle);
  }
  return NULL;
}

static pid_t g_child;
static void Fork(void) { g_child = fork(); }

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
  if (Is(how, "destructor")) {  // the child comes out of a dlclose that it never entered
    handle = Open(argv[2]);
    void* closed = Open(argv[3]);
    void (**at_close)(void) = (void (**)(void))dlsym(closed, "at_close");
    REQUIRE(at_close != NULL);
    *at_close = Fork;
    REQUIRE(dlclose(closed) == 0);
    if (g_child == 0) {
      struct timespec before, after;
      clock_gettime(CLOCK_MONOTONIC, &before);
      dlclose(Open(argv[3]));
      clock_gettime(CLOCK_MONOTONIC, &after);
      REQUIRE((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 800);
      Work(handle, 200);
      exit(0);
    }
    ExpectExit(g_child, 0);
    return 7;
  }
  if (Is(how,
         "iconv")) {  // what libc has closed when others were closed behind it; the first two call malloc
    const char* names[] = {"ISO-2022-JP", "UTF-7", "KOI8-R", "CP1250", "CP1251", "CP1253", "EUC-JP", "BIG5"};
    for (int i = 0; i < 24; ++i) {
      if (!Convert(names[i % 8])) return 77;
    }
    pid_t pid = fork();
    if (pid == 0) exit(Convert(names[0]) ? 0 : 1);
    ExpectExit(pid, 0);
    return 7;
  }
  if (Is(how, "closing")) {  // another thread is in dlclose
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, OpenAndClose, argv[2]) == 0);
    for (int i = 0; i < 2000; ++i) {
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      ExpectExit(pid, 0);
    }
    _exit(7);
  }
  return 97;
}
