#include "agent/interpose/allocator.h"

#include <dlfcn.h>

#include <cstdint>
#include <type_traits>

#include "agent/base/thread_state.h"
#include "agent/capture/heap_sampler.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

// What glibc 2.26 to 2.33 asked for in dlsym were 32 bytes a thread.
constexpr size_t kEarlyBytes = 16 * 1024;
alignas(4096) constinit char g_early[kEarlyBytes]{};
constinit std::atomic<size_t> g_early_used{0};

// Before each block: its size, for realloc.
struct alignas(16) EarlyHeader {
  size_t size;
};

void FirstFree(void* block) {
  if (AllocatorIsReady()) g_allocator.free(block);
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
                                .reallocarray_calls_realloc = true};
constinit std::atomic<bool> g_allocator_resolved{false};
constinit std::atomic<bool> g_counts_by_name{true};

bool ResolveAllocator() {
  if (t_state.resolves_allocator) return false;
  t_state.resolves_allocator = true;
  auto find = [](auto& function, const char* name) {
    void* found = dlsym(RTLD_NEXT, name);
    if (found != nullptr) function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
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
  find(g_allocator.free, "free");  // last: the others need a check
  t_state.resolves_allocator = false;
  g_allocator_resolved.store(true, std::memory_order_release);
  return true;
}

void* AllocateEarly(size_t size, size_t alignment) {
  if (alignment < alignof(EarlyHeader)) alignment = alignof(EarlyHeader);
  if (size > kEarlyBytes || alignment > kEarlyBytes) return nullptr;
  size_t room = sizeof(EarlyHeader) + alignment + size;
  size_t at = g_early_used.fetch_add(room, std::memory_order_relaxed);
  if (at + room > kEarlyBytes) {
    g_early_used.fetch_sub(room, std::memory_order_relaxed);
    return nullptr;
  }
  auto start = reinterpret_cast<uintptr_t>(g_early) + at + sizeof(EarlyHeader);
  auto block = reinterpret_cast<void*>((start + alignment - 1) & ~(alignment - 1));
  (static_cast<EarlyHeader*>(block) - 1)->size = size;
  g_heap_sampler.live().NeverForget(block);  // its free must look closer
  return block;
}

bool IsEarly(const void* block) {
  return static_cast<const char*>(block) >= g_early &&
         static_cast<const char*>(block) < g_early + kEarlyBytes;
}

size_t EarlySize(const void* block) { return (static_cast<const EarlyHeader*>(block) - 1)->size; }

}  // namespace profagent
