#include "agent/interpose/foreign_hooks.h"

#include <link.h>

#include <cstddef>

#include "agent/interpose/allocation.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

// number, symbol, hook: malloc's family, C23's frees, jemalloc's functions with flags, operator new and operator delete.
// xallocx is not among them: a block that it resizes in place keeps the size that was recorded.
// clang-format off
#define PROF_FOREIGN_FUNCTIONS(X)                                                                                               \
  X(kMalloc, "malloc", Malloc)                                                                                                  \
  X(kFree, "free", Free<kFree>)                                                                                                 \
  X(kCalloc, "calloc", Calloc)                                                                                                  \
  X(kRealloc, "realloc", Realloc)                                                                                               \
  X(kReallocarray, "reallocarray", Reallocarray)                                                                                \
  X(kPosixMemalign, "posix_memalign", PosixMemalign)                                                                            \
  X(kAlignedAlloc, "aligned_alloc", Aligned<kAlignedAlloc>)                                                                     \
  X(kMemalign, "memalign", Aligned<kMemalign>)                                                                                  \
  X(kValloc, "valloc", Sized<kValloc>)                                                                                          \
  X(kPvalloc, "pvalloc", Sized<kPvalloc>)                                                                                       \
  X(kCfree, "cfree", Free<kCfree>)                                                                                              \
  X(kFreeSized, "free_sized", Free<kFreeSized, size_t>)                                                                         \
  X(kFreeAlignedSized, "free_aligned_sized", Free<kFreeAlignedSized, size_t, size_t>)                                           \
  X(kMallocx, "mallocx", Sized<kMallocx, int>)                                                                                  \
  X(kRallocx, "rallocx", Rallocx)                                                                                               \
  X(kDallocx, "dallocx", Free<kDallocx, int>)                                                                                   \
  X(kSdallocx, "sdallocx", Free<kSdallocx, size_t, int>)                                                                        \
  X(kNew, "_Znwm", Sized<kNew>)                                                                                                 \
  X(kNewArray, "_Znam", Sized<kNewArray>)                                                                                       \
  X(kNewNothrow, "_ZnwmRKSt9nothrow_t", Sized<kNewNothrow, NothrowTag>)                                                         \
  X(kNewArrayNothrow, "_ZnamRKSt9nothrow_t", Sized<kNewArrayNothrow, NothrowTag>)                                               \
  X(kNewAligned, "_ZnwmSt11align_val_t", Sized<kNewAligned, Alignment>)                                                         \
  X(kNewArrayAligned, "_ZnamSt11align_val_t", Sized<kNewArrayAligned, Alignment>)                                               \
  X(kNewAlignedNothrow, "_ZnwmSt11align_val_tRKSt9nothrow_t", Sized<kNewAlignedNothrow, Alignment, NothrowTag>)                 \
  X(kNewArrayAlignedNothrow, "_ZnamSt11align_val_tRKSt9nothrow_t", Sized<kNewArrayAlignedNothrow, Alignment, NothrowTag>)       \
  X(kDelete, "_ZdlPv", Free<kDelete>)                                                                                           \
  X(kDeleteArray, "_ZdaPv", Free<kDeleteArray>)                                                                                 \
  X(kDeleteNothrow, "_ZdlPvRKSt9nothrow_t", Free<kDeleteNothrow, NothrowTag>)                                                   \
  X(kDeleteArrayNothrow, "_ZdaPvRKSt9nothrow_t", Free<kDeleteArrayNothrow, NothrowTag>)                                         \
  X(kDeleteAligned, "_ZdlPvSt11align_val_t", Free<kDeleteAligned, Alignment>)                                                   \
  X(kDeleteArrayAligned, "_ZdaPvSt11align_val_t", Free<kDeleteArrayAligned, Alignment>)                                         \
  X(kDeleteAlignedNothrow, "_ZdlPvSt11align_val_tRKSt9nothrow_t", Free<kDeleteAlignedNothrow, Alignment, NothrowTag>)           \
  X(kDeleteArrayAlignedNothrow, "_ZdaPvSt11align_val_tRKSt9nothrow_t", Free<kDeleteArrayAlignedNothrow, Alignment, NothrowTag>) \
  X(kDeleteSized, "_ZdlPvm", Free<kDeleteSized, size_t>)                                                                        \
  X(kDeleteArraySized, "_ZdaPvm", Free<kDeleteArraySized, size_t>)                                                              \
  X(kDeleteSizedAligned, "_ZdlPvmSt11align_val_t", Free<kDeleteSizedAligned, size_t, Alignment>)                                \
  X(kDeleteArraySizedAligned, "_ZdaPvmSt11align_val_t", Free<kDeleteArraySizedAligned, size_t, Alignment>)
// clang-format on

enum Function : uint8_t {
#define PROF_NUMBER(number, symbol, ...) number,
  PROF_FOREIGN_FUNCTIONS(PROF_NUMBER)
#undef PROF_NUMBER
      kFunctions,
};
constexpr Function kFirstOtherName = kFreeSized;
constexpr Function kFirstOperator = kNew;

// What the hooks forward to, written before the first slot is redirected.
constinit void* g_originals[kFunctions]{};

using NothrowTag = const void*;  // std::nothrow_t const&: an address that nobody reads
using Alignment = size_t;        // std::align_val_t

template <Function kIndex, class Result, class... Arguments>
PROF_ALWAYS_INLINE Result Original(Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(g_originals[kIndex])(arguments...);
}

template <Function kIndex, class... Arguments>
__attribute__((noinline)) void* AllocateWatched(size_t size, Arguments... arguments) {
  return AllocateSlowly(size, true, [&] { return Original<kIndex, void*>(arguments...); });
}

template <Function kIndex, class... Arguments>
PROF_ALWAYS_INLINE void* Allocate(size_t size, Arguments... arguments) {
  if (HeapSampler::Covers(size)) [[likely]]
    return Original<kIndex, void*>(arguments...);
  return AllocateWatched<kIndex>(size, arguments...);
}

__attribute__((noinline)) void ForgetOrKeep(void* block) { ForgetBlock(block); }

// Every function that gives `block` back and takes these arguments too.
template <Function kIndex, class... Arguments>
void Free(void* block, Arguments... arguments) {
  if (MayBeSampled(block)) [[unlikely]]
    ForgetOrKeep(block);
  Original<kIndex, void>(block, arguments...);
}

void* Malloc(size_t size) { return Allocate<kMalloc>(size, size); }
void* Calloc(size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;  // which the real one refuses
  return Allocate<kCalloc>(bytes, count, size);
}

template <Function kIndex, class... Arguments>
__attribute__((noinline)) void* ReallocateWatched(void* block, size_t size, Arguments... arguments) {
  return ReallocateSlowly(block, size, true,
                          [&](void*, size_t) { return Original<kIndex, void*>(block, arguments...); });
}
void* Realloc(void* block, size_t size) {
  if (!MayBeSampled(block) && HeapSampler::Covers(size)) [[likely]]
    return Original<kRealloc, void*>(block, size);
  return ReallocateWatched<kRealloc>(block, size, size);
}
void* Rallocx(void* block, size_t size, int flags) {
  if (!MayBeSampled(block) && HeapSampler::Covers(size)) [[likely]]
    return Original<kRallocx, void*>(block, size, flags);
  return ReallocateWatched<kRallocx>(block, size, size, flags);
}
void* Reallocarray(void* block, size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return Original<kReallocarray, void*>(block, count, size);
  if (!MayBeSampled(block) && HeapSampler::Covers(bytes)) [[likely]]
    return Original<kReallocarray, void*>(block, count, size);
  return ReallocateWatched<kReallocarray>(block, bytes, count, size);
}

__attribute__((noinline)) int PosixMemalignWatched(void** block, size_t alignment, size_t size) {
  int error = 0;
  AllocateSlowly(size, true, [&]() -> void* {
    error = Original<kPosixMemalign, int>(block, alignment, size);
    return error == 0 ? *block : nullptr;
  });
  return error;
}
int PosixMemalign(void** block, size_t alignment, size_t size) {
  if (HeapSampler::Covers(size)) [[likely]]
    return Original<kPosixMemalign, int>(block, alignment, size);
  return PosixMemalignWatched(block, alignment, size);
}
template <Function kIndex>
void* Aligned(size_t alignment, size_t size) {
  return Allocate<kIndex>(size, alignment, size);
}

// All of operator new, mallocx, and valloc and pvalloc, whose pages are not asked for.
template <Function kIndex, class... Arguments>
void* Sized(size_t size, Arguments... arguments) {
  return Allocate<kIndex>(size, size, arguments...);
}

template <class Hook>
uintptr_t AddressOf(Hook* hook) {
  return reinterpret_cast<uintptr_t>(hook);
}

constexpr const char* kNames[kFunctions] = {
#define PROF_SYMBOL(number, symbol, ...) symbol,
    PROF_FOREIGN_FUNCTIONS(PROF_SYMBOL)
#undef PROF_SYMBOL
};

// No table: its addresses would be relocations, made at every start.
uintptr_t HookOf(size_t function) {
  switch (function) {
#define PROF_HOOK(number, symbol, ...) \
  case number:                         \
    return AddressOf(__VA_ARGS__);
    PROF_FOREIGN_FUNCTIONS(PROF_HOOK)
#undef PROF_HOOK
    default:
      return 0;
  }
}

constinit Redirection g_redirections[kFunctions]{};

}  // namespace

RedirectedPart RedirectionsTo(const LoadedObject& object, ForeignPart part) {
  constexpr size_t kFirst[] = {0, kFirstOtherName, kFirstOperator,
                               kFunctions};  // of each part, and behind the last
  size_t from = kFirst[static_cast<size_t>(part)];
  size_t to = kFirst[static_cast<size_t>(part) + 1];
  size_t count = 0;
  for (size_t function = from; function < to; ++function) {
    void* original = object.Function(kNames[function]);
    if (original == nullptr) continue;
    g_originals[function] = original;
    g_redirections[from + count++] = {kNames[function], reinterpret_cast<uintptr_t>(original),
                                      HookOf(function),
                                      FirstFunction(_r_debug.r_map, kNames[function]) != original};
  }
  return {g_redirections + from, count};
}

}  // namespace profagent
