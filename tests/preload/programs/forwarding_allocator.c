// A preloaded library that looks at every call and hands it on, as tracers do. With -DPOOL it serves small requests from chunks
// that it asks the next allocator for, and hands on only the large ones.
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default"), used))

static size_t g_calls;
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#ifdef POOL
static const size_t kSmall = 8192;
static const size_t kChunk = 1 << 20;
static char* g_chunk;
static size_t g_used;
static struct { char* start; } g_chunks[4096];
static size_t g_chunk_count;
static char g_lock;

static int IsOfPool(const void* block) {
  for (size_t i = 0; i < g_chunk_count; ++i) {
    if ((const char*)block >= g_chunks[i].start && (const char*)block < g_chunks[i].start + kChunk) return 1;
  }
  return 0;
}

static void* Small(size_t size) {
  while (__atomic_test_and_set(&g_lock, __ATOMIC_ACQUIRE)) {
  }
  size_t room = (size + 31) & ~(size_t)15;
  if (g_chunk == NULL || g_used + room > kChunk) {
    g_chunk = NEXT(malloc)(kChunk);
    g_chunks[g_chunk_count++].start = g_chunk;
    g_used = 0;
  }
  char* block = g_chunk + g_used + 16;
  g_used += room;
  *(size_t*)(block - 16) = size;
  __atomic_clear(&g_lock, __ATOMIC_RELEASE);
  return block;
}
#endif

// A word of data with what the loader takes for malloc.
EXPORT void* (*malloc_in_data)(size_t) = malloc;

EXPORT void* malloc(size_t size) {
  ++g_calls;
#ifdef POOL
  if (size < kSmall) return Small(size);
#endif
  return NEXT(malloc)(size);
}

EXPORT void free(void* block) {
  ++g_calls;
#ifdef POOL
  if (IsOfPool(block)) return;
#endif
  NEXT(free)(block);
}

EXPORT void* calloc(size_t count, size_t size) {
  ++g_calls;
#ifdef POOL
  if (count * size < kSmall) return memset(Small(count * size), 0, count * size);
#endif
  return NEXT(calloc)(count, size);
}

EXPORT void* realloc(void* block, size_t size) {
  ++g_calls;
#ifdef POOL
  if (block == NULL) return malloc(size);
  if (IsOfPool(block)) {
    size_t before = *(size_t*)((char*)block - 16);
    void* moved = size < kSmall ? Small(size) : NEXT(malloc)(size);
    return memcpy(moved, block, before < size ? before : size);
  }
#endif
  return NEXT(realloc)(block, size);
}
