// free_sized and free_aligned_sized of C23: built only where libc has them. A preloaded library that defines what libc lacks
// turns a program's weak reference into a promise that nobody keeps.
//
// Context: `hook`, `bootstrap`.
#include "agent/interpose/allocation.h"
#include "agent/interpose/allocator.h"

namespace profagent {
namespace {

PROF_ALWAYS_INLINE void ForgetIfSampled(void* block) {
  EnsureAllocator();
  if (MayBeSampled(block)) [[unlikely]]
    ForgetBlock(block);
}

}  // namespace
}  // namespace profagent

PROF_EXPORT void free_sized(void* block, size_t size) noexcept {
  profagent::ForgetIfSampled(block);
  profagent::g_allocator.free_sized(block, size);
}

PROF_EXPORT void free_aligned_sized(void* block, size_t alignment, size_t size) noexcept {
  profagent::ForgetIfSampled(block);
  profagent::g_allocator.free_aligned_sized(block, alignment, size);
}
