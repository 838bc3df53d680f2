#include "agent/interpose/allocator.h"

#include <link.h>
#include <unwind.h>

#include <type_traits>

#include "agent/base/thread_state.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

void FirstFree(void* block) {
  EnsureAllocator();
  g_allocator.free(block);
}

}  // namespace

// What the unwinder calls for a frame with an InAllocator (allocation.h) that an exception passes: a personality routine without
// a landing pad, whose search finds no handler here. Nothing below the frame is under way any more.
extern "C" __attribute__((visibility("hidden"), used)) _Unwind_Reason_Code profagent_leaves_allocator(
    int version, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*, _Unwind_Context*) {
  if (version == 1 && (actions & _UA_CLEANUP_PHASE) != 0) t_state.in_allocator = 0;
  return _URC_CONTINUE_UNWIND;
}

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
