// malloc and its family.
//
// Context: `bootstrap` and `hook`, the hottest of all: an allocation that is not sampled costs one thread-local subtraction,
//          a free one look into the filter; both then jump to the real function.
// Exactly: what a function returns, errno, alignment, zero sizes and overflows are the real allocator's own: it is always
//          asked, with the arguments that we got. malloc_usable_size is not interposed: no block of ours differs.
// Sizes:   are recorded as they were asked for.
// Missing: free_sized and free_aligned_sized, which no libc that we can be built on has; __libc_malloc and its like, by
//          which allocators, not programs, reach glibc.
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/heap_sampler.h"
#include "agent/interpose/allocator.h"

namespace profagent {
namespace {

// Around a call of the real allocator that is a sample: what it asks for by public names is not one again.
class InAllocator {
 public:
  InAllocator() : before_(t_state.in_allocator) {
    t_state.in_allocator = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  }
  ~InAllocator() { t_state.in_allocator = before_; }
  InAllocator(const InAllocator&) = delete;
  InAllocator& operator=(const InAllocator&) = delete;

 private:
  uintptr_t before_;
};

// The way of an allocation that the thread's gap does not cover.
template <class Allocate>
PROF_ALWAYS_INLINE void* AllocateSlowly(size_t size, Allocate allocate) {
  if (!g_heap_sampler.Draws(size)) return allocate();
  void* block = nullptr;
  {
    InAllocator guard;
    block = allocate();
  }
  if (block != nullptr) g_heap_sampler.Record(block, size);
  return block;
}

// While the real functions are being looked up.
void* EarlyOrFail(size_t size, size_t alignment = 16) {
  void* block = AllocateEarly(size, alignment);
  if (block == nullptr) errno = ENOMEM;
  return block;
}

__attribute__((noinline)) void* MallocSlowly(size_t size) {
  if (!AllocatorIsReady()) return EarlyOrFail(size);
  return AllocateSlowly(size, [&] { return g_allocator.malloc(size); });
}

__attribute__((noinline)) void* CallocSlowly(size_t count, size_t size, size_t bytes) {
  if (!AllocatorIsReady()) return EarlyOrFail(bytes);  // zeroed: it is used once
  return AllocateSlowly(bytes, [&] { return g_allocator.calloc(count, size); });
}

__attribute__((noinline)) void FreeSlowly(void* block, void (*real_free)(void*)) {
  if (IsEarly(block)) return;
  if (HeapSiteRecord* site = g_heap_sampler.live().Take(block)) g_heap_sampler.CountFreed(site);
  real_free(block);
}

void* MoveEarly(void* block, size_t size) {
  void* moved = MallocSlowly(size);
  if (moved != nullptr) std::memcpy(moved, block, size < EarlySize(block) ? size : EarlySize(block));
  return moved;
}

__attribute__((noinline)) void* ReallocSlowly(void* block, size_t size) {
  if (!AllocatorIsReady() && block == nullptr) return EarlyOrFail(size);
  if (block != nullptr && IsEarly(block)) return MoveEarly(block, size);
  HeapSiteRecord* site = g_heap_sampler.live().Take(block);
  void* result = AllocateSlowly(size, [&] {
    void* moved = g_allocator.realloc(block, size);
    // libc's realloc to nothing is a free, and says nullptr too.
    bool given_back = moved != nullptr || size == 0;
    if (site != nullptr && given_back) g_heap_sampler.CountFreed(site);
    if (site != nullptr && !given_back) g_heap_sampler.PutBack(block, site);
    return moved;
  });
  return result;
}

__attribute__((noinline)) int PosixMemalignSlowly(void** block, size_t alignment, size_t size) {
  if (!AllocatorIsReady()) {
    void* early = AllocateEarly(size, alignment);
    if (early != nullptr) *block = early;
    return early != nullptr ? 0 : ENOMEM;
  }
  int error = 0;
  AllocateSlowly(size, [&]() -> void* {
    error = g_allocator.posix_memalign(block, alignment, size);
    return error == 0 ? *block : nullptr;
  });
  return error;
}

// memalign and its relatives; `allocate` calls the real one.
template <class Allocate>
PROF_ALWAYS_INLINE void* AllocateAligned(size_t alignment, size_t size, Allocate allocate) {
  if (HeapSampler::Covers(size)) [[likely]]
    return allocate();
  if (!AllocatorIsReady()) return EarlyOrFail(size, alignment);
  return AllocateSlowly(size, allocate);
}

constexpr size_t kPage = 4096;

bool Multiply(size_t count, size_t size, size_t* bytes) {
  return !__builtin_mul_overflow(count, size, bytes);
}

PROF_ALWAYS_INLINE bool IsSampled(void* block) { return g_heap_sampler.live().MayHold(block); }

}  // namespace
}  // namespace profagent

using profagent::g_allocator;
using profagent::HeapSampler;

PROF_EXPORT void* malloc(size_t size) noexcept {
  if (HeapSampler::Covers(size)) [[likely]]
    return g_allocator.malloc(size);
  return profagent::MallocSlowly(size);
}

PROF_EXPORT void free(void* block) noexcept {
  if (!profagent::IsSampled(block)) [[likely]]
    return g_allocator.free(block);
  profagent::FreeSlowly(block, g_allocator.free);
}

// An old name of free, which programs of 2017 and before may still call.
PROF_EXPORT void cfree(void* block) noexcept {
  if (!profagent::IsSampled(block)) [[likely]]
    return g_allocator.cfree(block);
  profagent::FreeSlowly(block, g_allocator.cfree);
}

PROF_EXPORT void* calloc(size_t count, size_t size) noexcept {
  size_t bytes = 0;
  if (!profagent::Multiply(count, size, &bytes)) bytes = SIZE_MAX;  // which the real one refuses
  if (HeapSampler::Covers(bytes)) [[likely]]
    return g_allocator.calloc(count, size);
  return profagent::CallocSlowly(count, size, bytes);
}

PROF_EXPORT void* realloc(void* block, size_t size) noexcept {
  if (!profagent::IsSampled(block) && HeapSampler::Covers(size)) [[likely]]
    return g_allocator.realloc(block, size);
  return profagent::ReallocSlowly(block, size);
}

// glibc's own jumps to realloc, by its public name: then that is what is counted.
PROF_EXPORT void* reallocarray(void* block, size_t count, size_t size) noexcept {
  size_t bytes = 0;
  if (profagent::Multiply(count, size, &bytes)) return realloc(block, bytes);
  if (!profagent::AllocatorIsReady() || g_allocator.reallocarray == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  return g_allocator.reallocarray(block, count, size);
}

PROF_EXPORT int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
  if (HeapSampler::Covers(size)) [[likely]]
    return g_allocator.posix_memalign(block, alignment, size);
  return profagent::PosixMemalignSlowly(block, alignment, size);
}

PROF_EXPORT void* aligned_alloc(size_t alignment, size_t size) noexcept {
  return profagent::AllocateAligned(alignment, size,
                                    [&] { return g_allocator.aligned_alloc(alignment, size); });
}

PROF_EXPORT void* memalign(size_t alignment, size_t size) noexcept {
  return profagent::AllocateAligned(alignment, size, [&] { return g_allocator.memalign(alignment, size); });
}

PROF_EXPORT void* valloc(size_t size) noexcept {
  return profagent::AllocateAligned(profagent::kPage, size, [&] { return g_allocator.valloc(size); });
}

PROF_EXPORT void* pvalloc(size_t size) noexcept {
  return profagent::AllocateAligned(profagent::kPage, size, [&] { return g_allocator.pvalloc(size); });
}
