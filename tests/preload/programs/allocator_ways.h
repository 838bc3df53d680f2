// Every way to ask for memory, each a function whose name a profile shows. For a program and for a library.
#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

// Null where nobody has them; then what is counted is free.
extern "C" void free_sized(void* block, size_t size) __attribute__((weak));
extern "C" void free_aligned_sized(void* block, size_t alignment, size_t size) __attribute__((weak));

// jemalloc's.
extern "C" void* mallocx(size_t size, int flags) __attribute__((weak));
extern "C" void* rallocx(void* block, size_t size, int flags) __attribute__((weak));
extern "C" void dallocx(void* block, int flags) __attribute__((weak));
extern "C" void sdallocx(void* block, size_t size, int flags) __attribute__((weak));

constexpr int kBlocks = 7;
constexpr int kKept = 3;
constexpr size_t kSize = 67 * 64;  // a size that nothing else has, and that libstdc++ need not round up

static void* volatile g_kept;  // the compiler must not do without a block

// `allocate` kBlocks times, `give_back` all but kKept of them.
template <class Allocate, class GiveBack>
__attribute__((always_inline)) static inline void Use(Allocate allocate, GiveBack give_back) {
  void* blocks[kBlocks];
  for (void*& block : blocks) {
    block = allocate();
    if (block == nullptr) std::abort();
    std::memset(block, 1, kSize);
    g_kept = block;
  }
  for (int i = 0; i < kBlocks - kKept; ++i) give_back(blocks[i]);
}

#define WAY(name, allocate, give_back)                                       \
  extern "C" {                                                               \
  static __attribute__((noinline)) void name() {                             \
    Use([]() -> void* { return allocate; }, [](void* block) { give_back; }); \
    asm volatile(""); /* no jump into the last call */                       \
  }                                                                          \
  }

constexpr std::align_val_t kAlignment{64};

WAY(use_malloc, malloc(kSize), free(block))
WAY(use_calloc, calloc(1, kSize), free(block))
WAY(use_realloc, realloc(nullptr, kSize), free(block))
WAY(use_realloc_to_nothing, malloc(kSize), free(realloc(block, 0)))
WAY(use_reallocarray, reallocarray(nullptr, 1, kSize), free(block))
WAY(use_memalign, memalign(64, kSize), free(block))
WAY(use_aligned_alloc, aligned_alloc(64, kSize), free(block))
WAY(use_valloc, valloc(kSize), free(block))
WAY(use_new, ::operator new(kSize), ::operator delete(block))
WAY(use_new_array, ::operator new[](kSize), ::operator delete[](block))
WAY(use_new_sized, ::operator new(kSize), ::operator delete(block, kSize))
WAY(use_new_array_sized, ::operator new[](kSize), ::operator delete[](block, kSize))
WAY(use_new_nothrow, ::operator new(kSize, std::nothrow), ::operator delete(block, std::nothrow))
WAY(use_new_array_nothrow, ::operator new[](kSize, std::nothrow), ::operator delete[](block, std::nothrow))
WAY(use_new_aligned, ::operator new(kSize, kAlignment), ::operator delete(block, kAlignment))
WAY(use_new_array_aligned, ::operator new[](kSize, kAlignment), ::operator delete[](block, kAlignment))
WAY(use_new_aligned_sized, ::operator new(kSize, kAlignment), ::operator delete(block, kSize, kAlignment))
WAY(use_new_array_aligned_sized, ::operator new[](kSize, kAlignment),
    ::operator delete[](block, kSize, kAlignment))
WAY(use_new_aligned_nothrow, ::operator new(kSize, kAlignment, std::nothrow),
    ::operator delete(block, kAlignment, std::nothrow))
WAY(use_new_array_aligned_nothrow, ::operator new[](kSize, kAlignment, std::nothrow),
    ::operator delete[](block, kAlignment, std::nothrow))

static __attribute__((noinline)) void* PosixMemalignOrNull() {
  void* block = nullptr;
  return posix_memalign(&block, 64, kSize) == 0 ? block : nullptr;
}
WAY(use_posix_memalign, PosixMemalignOrNull(), free(block))

WAY(use_free_sized, malloc(kSize), free_sized != nullptr ? free_sized(block, kSize) : free(block))
WAY(use_free_aligned_sized, aligned_alloc(64, kSize),
    free_aligned_sized != nullptr ? free_aligned_sized(block, 64, kSize) : free(block))

WAY(use_mallocx, mallocx != nullptr ? mallocx(kSize, 0) : malloc(kSize),
    dallocx != nullptr ? dallocx(block, 0) : free(block))
WAY(use_rallocx, rallocx != nullptr ? rallocx(malloc(100), kSize, 0) : malloc(kSize),
    sdallocx != nullptr ? sdallocx(block, kSize, 0) : free(block))

// Allocated inside libc.
static __attribute__((noinline)) char* Text() {
  static char text[kSize];
  std::memset(text, 'x', kSize - 1);
  return text;
}
WAY(use_strdup, strdup(Text()), free(block))

// By pointers that the compiler put into data.
static void* (*volatile g_pointers[])(size_t) = {malloc};
static void (*volatile g_free_pointer)(void*) = free;
WAY(use_pointers, g_pointers[0](kSize), g_free_pointer(block))

static __attribute__((noinline)) void UseEverything() {
  use_malloc();
  use_calloc();
  use_realloc();
  use_realloc_to_nothing();
  use_reallocarray();
  use_memalign();
  use_aligned_alloc();
  use_valloc();
  use_new();
  use_new_array();
  use_new_sized();
  use_new_array_sized();
  use_new_nothrow();
  use_new_array_nothrow();
  use_new_aligned();
  use_new_array_aligned();
  use_new_aligned_sized();
  use_new_array_aligned_sized();
  use_new_aligned_nothrow();
  use_new_array_aligned_nothrow();
  use_posix_memalign();
  use_free_sized();
  use_free_aligned_sized();
  use_mallocx();
  use_rallocx();
  use_strdup();
  use_pointers();
  asm volatile("");
}
