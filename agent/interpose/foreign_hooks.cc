#include "agent/interpose/foreign_hooks.h"

#include <cstddef>

#include "agent/interpose/allocation.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {
namespace {

enum Function : uint8_t {
  kMalloc,
  kFree,
  kCalloc,
  kRealloc,
  kReallocarray,
  kPosixMemalign,
  kAlignedAlloc,
  kMemalign,
  kValloc,
  kPvalloc,
  kCfree,
  kFreeSized,
  kFreeAlignedSized,
  kNew,
  kNewArray,
  kNewNothrow,
  kNewArrayNothrow,
  kNewAligned,
  kNewArrayAligned,
  kNewAlignedNothrow,
  kNewArrayAlignedNothrow,
  kDelete,
  kDeleteArray,
  kDeleteNothrow,
  kDeleteArrayNothrow,
  kDeleteAligned,
  kDeleteArrayAligned,
  kDeleteAlignedNothrow,
  kDeleteArrayAlignedNothrow,
  kDeleteSized,
  kDeleteArraySized,
  kDeleteSizedAligned,
  kDeleteArraySizedAligned,
  kFunctions,
};
constexpr Function kFirstSizedFree = kFreeSized;
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

// All of operator new, and valloc and pvalloc, whose pages are not asked for.
template <Function kIndex, class... Arguments>
void* Sized(size_t size, Arguments... arguments) {
  return Allocate<kIndex>(size, size, arguments...);
}

template <class Hook>
uintptr_t AddressOf(Hook* hook) {
  return reinterpret_cast<uintptr_t>(hook);
}

// In the order of Function. Without addresses: they are not constants before the library is relocated.
constexpr const char* kNames[kFunctions] = {
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "cfree",
    "free_sized",
    "free_aligned_sized",
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
};

uintptr_t HookOf(size_t function) {
  switch (function) {
    case kMalloc:
      return AddressOf(Malloc);
    case kFree:
      return AddressOf(Free<kFree>);
    case kCalloc:
      return AddressOf(Calloc);
    case kRealloc:
      return AddressOf(Realloc);
    case kReallocarray:
      return AddressOf(Reallocarray);
    case kPosixMemalign:
      return AddressOf(PosixMemalign);
    case kAlignedAlloc:
      return AddressOf(Aligned<kAlignedAlloc>);
    case kMemalign:
      return AddressOf(Aligned<kMemalign>);
    case kValloc:
      return AddressOf(Sized<kValloc>);
    case kPvalloc:
      return AddressOf(Sized<kPvalloc>);
    case kCfree:
      return AddressOf(Free<kCfree>);
    case kFreeSized:
      return AddressOf(Free<kFreeSized, size_t>);
    case kFreeAlignedSized:
      return AddressOf(Free<kFreeAlignedSized, size_t, size_t>);
    case kNew:
      return AddressOf(Sized<kNew>);
    case kNewArray:
      return AddressOf(Sized<kNewArray>);
    case kNewNothrow:
      return AddressOf(Sized<kNewNothrow, NothrowTag>);
    case kNewArrayNothrow:
      return AddressOf(Sized<kNewArrayNothrow, NothrowTag>);
    case kNewAligned:
      return AddressOf(Sized<kNewAligned, Alignment>);
    case kNewArrayAligned:
      return AddressOf(Sized<kNewArrayAligned, Alignment>);
    case kNewAlignedNothrow:
      return AddressOf(Sized<kNewAlignedNothrow, Alignment, NothrowTag>);
    case kNewArrayAlignedNothrow:
      return AddressOf(Sized<kNewArrayAlignedNothrow, Alignment, NothrowTag>);
    case kDelete:
      return AddressOf(Free<kDelete>);
    case kDeleteArray:
      return AddressOf(Free<kDeleteArray>);
    case kDeleteNothrow:
      return AddressOf(Free<kDeleteNothrow, NothrowTag>);
    case kDeleteArrayNothrow:
      return AddressOf(Free<kDeleteArrayNothrow, NothrowTag>);
    case kDeleteAligned:
      return AddressOf(Free<kDeleteAligned, Alignment>);
    case kDeleteArrayAligned:
      return AddressOf(Free<kDeleteArrayAligned, Alignment>);
    case kDeleteAlignedNothrow:
      return AddressOf(Free<kDeleteAlignedNothrow, Alignment, NothrowTag>);
    case kDeleteArrayAlignedNothrow:
      return AddressOf(Free<kDeleteArrayAlignedNothrow, Alignment, NothrowTag>);
    case kDeleteSized:
      return AddressOf(Free<kDeleteSized, size_t>);
    case kDeleteArraySized:
      return AddressOf(Free<kDeleteArraySized, size_t>);
    case kDeleteSizedAligned:
      return AddressOf(Free<kDeleteSizedAligned, size_t, Alignment>);
    case kDeleteArraySizedAligned:
      return AddressOf(Free<kDeleteArraySizedAligned, size_t, Alignment>);
    default:
      return 0;
  }
}

constinit Redirection g_redirections[kFunctions]{};

}  // namespace

RedirectedPart RedirectionsTo(const LoadedObject& object, ForeignPart part) {
  constexpr size_t kFirst[] = {0, kFirstSizedFree, kFirstOperator,
                               kFunctions};  // of each part, and behind the last
  size_t from = kFirst[static_cast<size_t>(part)];
  size_t to = kFirst[static_cast<size_t>(part) + 1];
  size_t count = 0;
  for (size_t function = from; function < to; ++function) {
    void* original = object.Function(kNames[function]);
    if (original == nullptr) continue;
    g_originals[function] = original;
    g_redirections[from + count++] = {kNames[function], reinterpret_cast<uintptr_t>(original),
                                      HookOf(function)};
  }
  return {g_redirections + from, count};
}

}  // namespace profagent
