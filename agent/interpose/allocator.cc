#include "agent/interpose/allocator.h"

#include <link.h>

#include <type_traits>

#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

void FirstFree(void* block) {
  EnsureAllocator();
  g_allocator.free(block);
}

}  // namespace

// A free needs no check whether the table is ready: its first entry makes it so.
constinit Allocator g_allocator{.malloc = nullptr,
                                .free = FirstFree,
                                .calloc = nullptr,
                                .realloc = nullptr,
                                .reallocarray = nullptr,
                                .posix_memalign = nullptr,
                                .aligned_alloc = nullptr,
                                .memalign = nullptr,
                                .valloc = nullptr,
                                .pvalloc = nullptr,
                                .cfree = FirstFree,
                                .free_sized = nullptr,
                                .free_aligned_sized = nullptr,
                                .reallocarray_calls_realloc = true};
constinit std::atomic<bool> g_allocator_resolved{false};
constinit std::atomic<uint32_t> g_uncounted_names{0};

void ResolveAllocator() {
  const link_map* behind_us = ObjectAt(&g_allocator)->l_next;
  auto find = [&](auto& function, const char* name) {
    using Function = std::remove_reference_t<decltype(function)>;
    if (void* found = FirstFunction(behind_us, name)) function = reinterpret_cast<Function>(found);
  };
  find(g_allocator.malloc, "malloc");
  find(g_allocator.calloc, "calloc");
  find(g_allocator.realloc, "realloc");
  find(g_allocator.reallocarray, "reallocarray");
  g_allocator.reallocarray_calls_realloc = IsLibcs(reinterpret_cast<void*>(g_allocator.reallocarray));
  find(g_allocator.posix_memalign, "posix_memalign");
  find(g_allocator.aligned_alloc, "aligned_alloc");
  find(g_allocator.memalign, "memalign");
  find(g_allocator.valloc, "valloc");
  find(g_allocator.pvalloc, "pvalloc");
  find(g_allocator.cfree, "cfree");
  find(g_allocator.free_sized, "free_sized");
  find(g_allocator.free_aligned_sized, "free_aligned_sized");
  find(g_allocator.free, "free");  // last: the others need a check
  g_allocator_resolved.store(true, std::memory_order_release);
}

}  // namespace profagent
