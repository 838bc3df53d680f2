// A small allocator whose functions call each other by their public names, as musl's calloc calls malloc. Preloaded, or linked
// into a program as its own. Memory comes from mmap and is never given back.
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default"), used))

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static char* g_from;
static char* g_to;

enum { kOurs = 0x0a110c };

struct Header {
  size_t size;
  size_t ours;
};

static void* Take(size_t alignment, size_t size) {
  if (alignment < 16) alignment = 16;
  size_t room = size + alignment + sizeof(struct Header);
  if (room < size) {
    errno = ENOMEM;
    return NULL;
  }
  pthread_mutex_lock(&g_lock);
  if ((size_t)(g_to - g_from) < room) {
    size_t chunk = room > 1 << 20 ? room : 1 << 20;
    void* memory = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      pthread_mutex_unlock(&g_lock);
      errno = ENOMEM;
      return NULL;
    }
    g_from = memory;
    g_to = g_from + chunk;
  }
  uintptr_t block = ((uintptr_t)g_from + sizeof(struct Header) + alignment - 1) & ~(uintptr_t)(alignment - 1);
  g_from += room;
  pthread_mutex_unlock(&g_lock);
  ((struct Header*)block)[-1] = (struct Header){size, kOurs};
  return (void*)block;
}

EXPORT void* malloc(size_t size) { return Take(16, size); }
EXPORT void free(void* block) {
#ifdef OLD  // as Electric Fence
  if (block != NULL && ((struct Header*)block)[-1].ours != kOurs) abort();
#endif
  (void)block;
}

// C23. Debian 12's libc has neither, nor its other allocators.
EXPORT void free_sized(void* block, size_t size) {
  (void)size;
  (void)block;
}
EXPORT void free_aligned_sized(void* block, size_t alignment, size_t size) {
  (void)alignment;
  free_sized(block, size);
}

EXPORT void* calloc(size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
  void* volatile block = malloc(bytes);  // no calloc made of malloc and memset
  if (block != NULL) memset(block, 0, bytes);
  return block;
}

EXPORT void* realloc(void* block, size_t size) {
  void* moved = malloc(size);
  if (moved == NULL || block == NULL) return moved;
  size_t before = ((struct Header*)block)[-1].size;
  memcpy(moved, block, before < size ? before : size);
  free(block);
  return moved;
}

EXPORT void* memalign(size_t alignment, size_t size) { return Take(alignment, size); }
#ifndef OLD  // from before C11
EXPORT void* aligned_alloc(size_t alignment, size_t size) {
#ifdef STRICT  // as C11 has it, and Scudo
  if (size % alignment != 0) abort();
#endif
  return memalign(alignment, size);
}
#endif
EXPORT void* valloc(size_t size) { return memalign(4096, size); }
EXPORT void* pvalloc(size_t size) { return memalign(4096, (size + 4095) & ~(size_t)4095); }
EXPORT int posix_memalign(void** block, size_t alignment, size_t size) {
  if (alignment < sizeof(void*) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void* taken = memalign(alignment, size);
  if (taken == NULL) return ENOMEM;
  *block = taken;
  return 0;
}
EXPORT size_t malloc_usable_size(void* block) { return block != NULL ? ((struct Header*)block)[-1].size : 0; }
