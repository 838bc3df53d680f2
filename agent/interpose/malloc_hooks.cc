// malloc and its family.
//
// Context: `bootstrap` and `hook`, the hottest of all: an allocation that is not sampled costs one thread-local subtraction,
//          a free one look into the filter; both then jump to the real function.
// Exactly: what a function returns, errno, alignment, zero sizes and overflows are the real allocator's own: it is always
//          asked, with the arguments that we got. malloc_usable_size is not interposed: no block of ours differs.
// Sizes:   are recorded as they were asked for.
// Missing: free_sized and free_aligned_sized are in sized_free_hooks.cc, where libc has them; __libc_malloc and its like, by
//          which allocators, not programs, reach glibc.
#include <cerrno>
#include <cstdint>

#include "agent/interpose/allocation.h"
#include "agent/interpose/allocator.h"

namespace profagent {
namespace {

// The way of an allocation by one of our names.
template <class Allocate>
PROF_ALWAYS_INLINE void* AllocateByName(AllocationName name, size_t size, Allocate allocate) {
  return AllocateSlowly(size, IsCounted(name), allocate);
}

__attribute__((noinline)) void* MallocSlowly(size_t size) {
  EnsureAllocator();
  return AllocateByName(AllocationName::kMalloc, size, [&] { return g_allocator.malloc(size); });
}

__attribute__((noinline)) void* CallocSlowly(size_t count, size_t size, size_t bytes) {
  EnsureAllocator();
  return AllocateByName(AllocationName::kCalloc, bytes, [&] { return g_allocator.calloc(count, size); });
}

__attribute__((noinline)) void FreeSlowly(void* block) {
  ForgetBlock(block);
  g_allocator.free(block);
}

__attribute__((noinline)) void* ReallocSlowly(void* block, size_t size) {
  EnsureAllocator();
  return ReallocateSlowly(block, size, IsCounted(AllocationName::kRealloc), g_allocator.realloc);
}

__attribute__((noinline)) void* ReallocarraySlowly(void* block, size_t count, size_t size, size_t bytes) {
  return ReallocateSlowly(block, bytes, IsCounted(AllocationName::kReallocarray),
                          [&](void*, size_t) { return g_allocator.reallocarray(block, count, size); });
}

__attribute__((noinline)) int PosixMemalignSlowly(void** block, size_t alignment, size_t size) {
  EnsureAllocator();
  int error = 0;
  AllocateByName(AllocationName::kPosixMemalign, size, [&]() -> void* {
    error = g_allocator.posix_memalign(block, alignment, size);
    return error == 0 ? *block : nullptr;
  });
  return error;
}

// memalign and its relatives; `allocate` calls the real one.
template <class Allocate>
PROF_ALWAYS_INLINE void* AllocateAligned(AllocationName name, size_t size, Allocate allocate) {
  if (HeapSampler::Covers(size)) [[likely]]
    return allocate();
  EnsureAllocator();
  return AllocateByName(name, size, allocate);
}

bool Multiply(size_t count, size_t size, size_t* bytes) {
  return !__builtin_mul_overflow(count, size, bytes);
}

}  // namespace
}  // namespace profagent

using profagent::AllocationName;
using profagent::g_allocator;
using profagent::HeapSampler;

PROF_EXPORT void* malloc(size_t size) noexcept {
  if (HeapSampler::Covers(size)) [[likely]]
    return g_allocator.malloc(size);
  return profagent::MallocSlowly(size);
}

PROF_EXPORT void free(void* block) noexcept {
  if (!profagent::MayBeSampled(block)) [[likely]]
    return g_allocator.free(block);
  profagent::FreeSlowly(block);
}

// An old name of free, which programs of 2017 and before may still call.
PROF_EXPORT void cfree(void* block) noexcept {
  if (!profagent::MayBeSampled(block)) [[likely]]
    return g_allocator.cfree(block);
  profagent::ForgetBlock(block);
  g_allocator.cfree(block);
}

PROF_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t bytes = 0;
  if (!profagent::Multiply(count, size, &bytes)) bytes = SIZE_MAX;  // which the real one refuses
  if (HeapSampler::Covers(bytes)) [[likely]]
    return g_allocator.calloc(count, size);
  return profagent::CallocSlowly(count, size, bytes);
}

PROF_EXPORT void* realloc(void* block, size_t size) noexcept {
  if (!profagent::MayBeSampled(block) && HeapSampler::Covers(size)) [[likely]]
    return g_allocator.realloc(block, size);
  return profagent::ReallocSlowly(block, size);
}

// libc's own jumps to realloc by its public name: to us, or to who stands before us and has the block. Another allocator's is
// a function like all others.
PROF_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t bytes = 0;
  bool is_size = profagent::Multiply(count, size, &bytes);
  profagent::EnsureAllocator();
  if (g_allocator.reallocarray == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  if (!is_size || g_allocator.reallocarray_calls_realloc ||
      (!profagent::MayBeSampled(block) && HeapSampler::Covers(bytes))) [[likely]]
    return g_allocator.reallocarray(block, count, size);
  return profagent::ReallocarraySlowly(block, count, size, bytes);
}

PROF_EXPORT int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
  if (HeapSampler::Covers(size)) [[likely]]
    return g_allocator.posix_memalign(block, alignment, size);
  return profagent::PosixMemalignSlowly(block, alignment, size);
}

PROF_EXPORT void* aligned_alloc(size_t alignment, size_t size) noexcept {
  return profagent::AllocateAligned(AllocationName::kAlignedAlloc, size,
                                    [&] { return g_allocator.aligned_alloc(alignment, size); });
}

PROF_EXPORT void* memalign(size_t alignment, size_t size) noexcept {
  return profagent::AllocateAligned(AllocationName::kMemalign, size,
                                    [&] { return g_allocator.memalign(alignment, size); });
}

PROF_EXPORT void* valloc(size_t size) noexcept {
  return profagent::AllocateAligned(AllocationName::kValloc, size, [&] { return g_allocator.valloc(size); });
}

PROF_EXPORT void* pvalloc(size_t size) noexcept {
  return profagent::AllocateAligned(AllocationName::kPvalloc, size,
                                    [&] { return g_allocator.pvalloc(size); });
}
