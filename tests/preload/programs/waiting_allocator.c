// A preloaded library that looks at every call and hands it on, to functions that its constructor finds.
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default"), used))

static void* (*g_malloc)(size_t);
static void* (*g_realloc)(void*, size_t);
static void (*g_free)(void*);

__attribute__((constructor)) static void Find(void) {
  g_malloc = (void* (*)(size_t))dlsym(RTLD_NEXT, "malloc");
  g_realloc = (void* (*)(void*, size_t))dlsym(RTLD_NEXT, "realloc");
  g_free = (void (*)(void*))dlsym(RTLD_NEXT, "free");
}

EXPORT void* malloc(size_t size) { return g_malloc(size); }
EXPORT void* realloc(void* block, size_t size) {
  return block == NULL ? malloc(size) : g_realloc(block, size);
}
EXPORT void* calloc(size_t count, size_t size) {
  void* block = malloc(count * size);
  return block != NULL ? memset(block, 0, count * size) : NULL;
}
EXPORT void free(void* block) {
  if (block != NULL) g_free(block);
}
