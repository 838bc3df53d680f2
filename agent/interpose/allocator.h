// The allocator behind our names: glibc's, or one that is preloaded or linked behind us.
//
// Context:   g_allocator in `hook` and `bootstrap`; ResolveAllocator in `bootstrap`: the first call of a hook in each
//            thread comes by it (heap_sampler.h: a gap of 0), and so does a free before any allocation, through the
//            table's first entry.
// Invariant: all functions are what the caller of our names would have called without us: the next definition behind ours.
//            (Not always the program's allocator: another one may stand before us, foreign_allocator.h.) A function that is
//            nowhere is nullptr; its hook cannot have been called through a symbol that never was.
// No dlsym:  it allocates (glibc before 2.34), takes the loader's lock, and may be another library's, whose RTLD_NEXT leads
//            back to us. The objects' own symbol tables need none of that: a look-up works in the loader, in an IFUNC
//            resolver, in somebody's constructor, and calls nothing that could call us.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/base/allocation_names.h"
#include "agent/interpose/idle_hooks.h"

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
  void (*free_sized)(void*, size_t);
  void (*free_aligned_sized)(void*, size_t, size_t);

  bool reallocarray_calls_realloc;  // by its name, so that the hook of realloc sees it: libc's
};

extern constinit Allocator g_allocator;
extern constinit std::atomic<bool> g_allocator_resolved;  // release: all of g_allocator

// A name that an allocator before us has too is called by the program there: whoever comes by ours is that allocator, in need of
// memory itself, and is not counted. Bit n: the AllocationName of number n. Written by the constructor.
extern constinit std::atomic<uint32_t> g_uncounted_names;

inline bool IsCounted(AllocationName name) {
  return (g_uncounted_names.load(std::memory_order_relaxed) >> static_cast<int>(name) & 1) == 0;
}

// Two threads may do this at once, and a handler inside of it: all write the same.
void ResolveAllocator();

// All of ours: no heap profile is taken.
void AddAllocatorHooks(IdleHooks* idle);

inline void EnsureAllocator() {
  if (!g_allocator_resolved.load(std::memory_order_acquire)) [[unlikely]]
    ResolveAllocator();
}

}  // namespace profagent
