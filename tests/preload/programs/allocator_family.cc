// Asks for memory in every way there is, a known number of times each: what any allocator must be seen to have been asked.
//
// Each way is a function of its own, kBlocks allocations of kSize bytes, of which kKept stay. `plugin` calls the same
// functions of a library that it loads. `behaviour` prints what the standard leaves to the allocator.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "tests/preload/programs/allocator_ways.h"

extern "C" {
static __attribute__((noinline)) void use_calloc_and_free() {
  void* block = calloc(1, kSize);
  g_kept = block;
  free(block);
  asm volatile("");
}
}

namespace {

void* AllWays(void*) {
  UseEverything();
  return nullptr;
}

int Threads() {
  pthread_t threads[4];
  for (pthread_t& thread : threads) {
    if (pthread_create(&thread, nullptr, AllWays, nullptr) != 0) return 99;
  }
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  return 7;
}

// The child gives back what its parent allocated, and has ways of its own.
int Fork() {
  void* inherited[] = {malloc(100), ::operator new(100), ::operator new (100, std::align_val_t{64})};
  pid_t child = fork();
  if (child < 0) return 99;
  free(inherited[0]);
  ::operator delete(inherited[1]);
  ::operator delete (inherited[2], std::align_val_t{64});
  UseEverything();
  if (child == 0) return 7;
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 7 : 99;
}

int Plugin(const char* path, int flags) {
  void* library = dlopen(path, flags);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 99;
  }
  auto use = reinterpret_cast<void (*)()>(dlsym(library, "UseEverythingInPlugin"));
  if (use == nullptr) return 99;
  use();
  use();
  return 7;
}

// A library that takes libc's functions instead of ours or another allocator's, and so must keep its blocks to itself.
int OwnBlocks(const char* path, int flags) {
  void* library = dlopen(path, flags | RTLD_DEEPBIND);
  if (library == nullptr) return 99;
  auto use = reinterpret_cast<void (*)()>(dlsym(library, "UseOwnBlocksInPlugin"));
  use();
  UseEverything();
  use();
  return 7;
}

// The loader gives the same place to the same library again, and the same address to what it knows about it.
int Reopen(const char* path) {
  for (int i = 0; i < 4; ++i) {
    void* library = dlopen(path, RTLD_NOW);
    if (library == nullptr) return 99;
    reinterpret_cast<void (*)()>(dlsym(library, "UseEverythingInPlugin"))();
    if (dlclose(library) != 0) return 99;
  }
  return 7;
}

// Opened, used and closed again by two threads at once.
void* OpenAndClose(void* path) {
  for (int i = 0; i < 100; ++i) {
    void* library = dlopen(static_cast<const char*>(path), RTLD_NOW);
    if (library == nullptr) std::abort();
    auto use = reinterpret_cast<void (*)()>(dlsym(library, "UseEverythingInPlugin"));
    use();
    dlclose(library);
  }
  return nullptr;
}

int Closes(char** paths) {
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) {
    if (pthread_create(&threads[i], nullptr, OpenAndClose, paths[i]) != 0) return 99;
  }
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  return 7;
}

// Alignment beyond what was asked for is chance: jemalloc's own.
void Say(const char* what, void* block, size_t alignment, int error) {
  bool aligned = reinterpret_cast<uintptr_t>(block) % alignment == 0;
  std::printf("%s: %s%s, usable %zu, error %d\n", what, block != nullptr ? "block" : "null",
              aligned ? "" : ", misaligned", block != nullptr ? malloc_usable_size(block) : 0, error);
}

// So much that a sampling profile must be right.
int Many() {
  for (int i = 0; i < 20000; ++i) use_calloc_and_free();
  return 7;
}

// What an allocator's operator new throws passes the hook that called it.
int AfterBadAlloc() {
  volatile size_t huge = SIZE_MAX / 4;
  int caught = 0;
  for (int i = 0; i < 2; ++i) {
    try {
      g_kept = i == 0 ? ::operator new(huge) : ::operator new[](huge);
    } catch (const std::bad_alloc&) {
      ++caught;
    }
  }
  UseEverything();
  return caught == 2 ? 7 : 99;
}

// Whether errno is touched, how zero is answered, what is refused: all of it the allocator's own business.
#define SAY(call, alignment, give_back)                            \
  do {                                                             \
    errno = 77;                                                    \
    void* block = (call);                                          \
    int error = errno;                                             \
    Say(#call, block, alignment, error);                           \
    errno = 78;                                                    \
    if (block != nullptr) give_back;                               \
    if (errno != 78) std::printf("  and back: error %d\n", errno); \
  } while (false)

void* PosixMemalign(size_t alignment, size_t size) {
  void* block = nullptr;
  int error = posix_memalign(&block, alignment, size);
  std::printf("posix_memalign: %d\n", error);
  return error == 0 ? block : nullptr;
}

int Behaviour(bool with_pvalloc) {
  volatile size_t huge = SIZE_MAX - 100;
  for (size_t size : std::initializer_list<size_t>{0, 1, 8, 15, 16, 17, 24, 100, 4000, 100000, 3000000}) {
    std::printf("-- %zu\n", static_cast<size_t>(size));
    SAY(malloc(size), 8, free(block));
    SAY(calloc(size, 1), 8, free(block));
    SAY(calloc(1, size), 8, free(block));
    SAY(realloc(nullptr, size), 8, free(block));
    SAY(reallocarray(nullptr, size, 2), 8, free(block));
    SAY(memalign(64, size), 64, free(block));
    SAY(aligned_alloc(64, size), 64, free(block));
    SAY(PosixMemalign(64, size), 64, free(block));
    SAY(valloc(size), 4096, free(block));
    if (with_pvalloc) SAY(pvalloc(size), 4096, free(block));
    SAY(::operator new(size), 8, ::operator delete(block));
    SAY(::operator new[](size), 8, ::operator delete[](block));
    SAY(::operator new(size, std::nothrow), 8, ::operator delete(block, std::nothrow));
    SAY(::operator new (size, std::align_val_t{128}), 128, ::operator delete (block, std::align_val_t{128}));
  }
  std::printf("-- refused\n");
  SAY(malloc(huge), 8, free(block));
  SAY(calloc(huge, 1), 8, free(block));
  SAY(calloc(huge / 2, 3), 8, free(block));
  SAY(calloc(0, huge), 8, free(block));
  SAY(realloc(nullptr, huge), 8, free(block));
  SAY(reallocarray(nullptr, huge / 2, 3), 8, free(block));
  SAY(memalign(64, huge), 64, free(block));
  SAY(PosixMemalign(64, huge), 64, free(block));
  SAY(PosixMemalign(3, 100), 8, free(block));
  SAY(PosixMemalign(0, 100), 8, free(block));
  SAY(valloc(huge), 4096, free(block));
  SAY(::operator new(huge, std::nothrow), 8, ::operator delete(block));
  try {
    void* block = ::operator new(huge);
    Say("new", block, 8, errno);
  } catch (const std::bad_alloc&) {
    std::printf("bad_alloc\n");
  }
  // In the middle of a life.
  char* block = static_cast<char*>(malloc(100));
  std::strcpy(block, "kept");
  errno = 77;
  void* moved = realloc(block, huge);
  std::printf("-- realloc to too much: %s, error %d, %s\n", moved != nullptr ? "block" : "null", errno,
              block);
  block = static_cast<char*>(realloc(block, 100000));
  std::printf("realloc: %s\n", block);
  block = static_cast<char*>(reallocarray(block, 10, 10));
  std::printf("reallocarray: %s\n", block);
  errno = 77;
  moved = reallocarray(block, huge / 2, 3);
  std::printf("reallocarray to too much: %s, error %d, %s\n", moved != nullptr ? "block" : "null", errno,
              block);
  Say("realloc to nothing", realloc(block, 0), 8, errno);
  free(nullptr);
  ::operator delete(nullptr);
  return 7;
}

}  // namespace

int main(int argc, char** argv) {
  // Where code of fixed addresses takes these, they are those of entries of its own, for all pointers to the functions.
  g_kept = reinterpret_cast<void*>(&malloc);
  g_kept = reinterpret_cast<void*>(&free);
  auto is = [&](const char* how) { return argc > 1 && std::strcmp(argv[1], how) == 0; };
  if (is("ways")) return UseEverything(), 7;
  if (is("many")) return Many();
  if (is("after_bad_alloc")) return AfterBadAlloc();
  if (is("own_blocks_now")) return OwnBlocks(argv[2], RTLD_NOW);
  if (is("own_blocks_lazy")) return OwnBlocks(argv[2], RTLD_LAZY);
  if (is("reopen")) return Reopen(argv[2]);
  if (is("threads")) return Threads();
  if (is("fork")) return Fork();
  if (is("plugin_now")) return Plugin(argv[2], RTLD_NOW);
  if (is("plugin_lazy")) return Plugin(argv[2], RTLD_LAZY);
  if (is("closes")) return Closes(argv + 2);
  if (is("behaviour")) return Behaviour(argc > 2);
  return 97;
}
