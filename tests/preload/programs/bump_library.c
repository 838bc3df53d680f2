// An allocator that a signal handler may use: one atomic addition, nothing is ever given back.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
enum { kBytes = 1 << 28 };
static _Atomic(char*) g_at;

static char* Start(void) {
  char* at = atomic_load(&g_at);
  if (at != NULL) return at;
  char* made = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (!atomic_compare_exchange_strong(&g_at, &at, made)) munmap(made, kBytes);
  return atomic_load(&g_at);
}

EXPORT void* malloc(size_t size) {
  Start();
  size_t* block = (size_t*)atomic_fetch_add(&g_at, (ptrdiff_t)((size + 31) & ~(size_t)15));
  block[1] = size;
  return block + 2;
}
EXPORT void free(void* block) {}
EXPORT void* calloc(size_t count, size_t size) { return malloc(count * size); }
EXPORT void* realloc(void* block, size_t size) {
  void* made = malloc(size);
  if (block != NULL) memcpy(made, block, ((size_t*)block)[-1] < size ? ((size_t*)block)[-1] : size);
  return made;
}
EXPORT void* memalign(size_t alignment, size_t size) {
  return (void*)(((uintptr_t)malloc(size + alignment) + alignment - 1) & ~(alignment - 1));
}
EXPORT void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
EXPORT int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return 0;
}
