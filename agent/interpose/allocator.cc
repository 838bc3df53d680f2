#include "agent/interpose/allocator.h"

#include <link.h>
#include <unwind.h>

#include <type_traits>

#include "agent/base/thread_state.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

// `visit(name, function)` for each function of the table.
template <class Visit>
void ForEachFunction(Visit visit) {
  visit("malloc", g_allocator.malloc);
  visit("calloc", g_allocator.calloc);
  visit("realloc", g_allocator.realloc);
  visit("reallocarray", g_allocator.reallocarray);
  visit("posix_memalign", g_allocator.posix_memalign);
  visit("aligned_alloc", g_allocator.aligned_alloc);
  visit("memalign", g_allocator.memalign);
  visit("valloc", g_allocator.valloc);
  visit("pvalloc", g_allocator.pvalloc);
  visit("cfree", g_allocator.cfree);
  visit("free_sized", g_allocator.free_sized);
  visit("free_aligned_sized", g_allocator.free_aligned_sized);
  visit("free", g_allocator.free);  // last: the others need a check whether the table is ready
}

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
  ForEachFunction([&](const char* name, auto& function) {
    using Function = std::remove_reference_t<decltype(function)>;
    if (void* found = FirstFunction(behind_us, name)) function = reinterpret_cast<Function>(found);
  });
  g_allocator.reallocarray_calls_realloc = IsLibcs(reinterpret_cast<void*>(g_allocator.reallocarray));
  g_allocator_resolved.store(true, std::memory_order_release);
}

void AddAllocatorHooks(IdleHooks* idle) {
  EnsureAllocator();
  LoadedObject us(ObjectAt(&g_allocator));
  ForEachFunction([&](const char* name, auto* original) { idle->Add(us.Function(name), original); });
}

}  // namespace profagent
