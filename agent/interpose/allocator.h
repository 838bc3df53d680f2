// The allocator that the program uses: glibc's, or one that is preloaded or linked behind us.
//
// Context:   g_allocator in `hook` and `bootstrap`; ResolveAllocator in `bootstrap`: the first call of a hook in each
//            thread comes by it (heap_sampler.h: a gap of 0), and so does a free before any allocation, through the
//            table's first entry.
// Invariant: all functions are what the caller of our names would have called without us: the next definition behind ours.
//            (Not always the program's allocator: another one may stand before us, foreign_allocator.h.) A function that is
//            nowhere is nullptr; its hook cannot have been called through a symbol that never was.
// Early:     dlsym itself may allocate (glibc before 2.34 does). What is asked for inside it comes from a small arena
//            and is never given back.
#pragma once

#include <atomic>
#include <cstddef>

namespace profagent {

struct Allocator {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*reallocarray)(void*, size_t, size_t);
  int (*posix_memalign)(void**, size_t, size_t);
  void* (*aligned_alloc)(size_t, size_t);
  void* (*memalign)(size_t, size_t);
  void* (*valloc)(size_t);
  void* (*pvalloc)(size_t);
  void (*cfree)(void*);

  bool reallocarray_calls_realloc;  // by its name, so that the hook of realloc sees it: libc's
};

extern constinit Allocator g_allocator;
extern constinit std::atomic<bool> g_allocator_resolved;  // release: all of g_allocator

// False: another allocator stands before us. What comes by our names then is not what the program allocates.
extern constinit std::atomic<bool> g_counts_by_name;

// Two threads may do this at once: both write the same. False inside itself: then the early arena serves.
bool ResolveAllocator();

inline bool AllocatorIsReady() {
  return g_allocator_resolved.load(std::memory_order_acquire) || ResolveAllocator();
}

// From the early arena; `alignment` a power of two up to a page. nullptr: it is used up.
void* AllocateEarly(size_t size, size_t alignment);
bool IsEarly(const void* block);
size_t EarlySize(const void* block);

}  // namespace profagent
