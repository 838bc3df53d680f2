// An allocator that takes a pthread mutex, as jemalloc and others do: our lock hooks run inside its malloc.
#include <pthread.h>
#include <stddef.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void __libc_free(void*);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void InMalloc(void) {
  pthread_mutex_lock(&mutex);
  for (volatile int i = 0; i < 100;) i = i + 1;
  pthread_mutex_unlock(&mutex);
}
void* malloc(size_t size) {
  InMalloc();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  InMalloc();
  return __libc_calloc(count, size);
}
void* realloc(void* block, size_t size) {
  InMalloc();
  return __libc_realloc(block, size);
}
void free(void* block) {
  InMalloc();
  __libc_free(block);
}
