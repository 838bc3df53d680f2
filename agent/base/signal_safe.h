// Marks for code that may run inside a signal handler of the application.
//
// Context: every function declared PROF_SIGNAL_SAFE is reachable from the CPU timer handler. The macro places
//          it in the section `prof_sigsafe`; scripts/check disassembles that section and lists every call that
//          leaves it. GCC ignores the mark on templates and inline functions: give those PROF_ALWAYS_INLINE.
#pragma once

#define PROF_SIGNAL_SAFE __attribute__((section("prof_sigsafe")))
#define PROF_ALWAYS_INLINE inline __attribute__((always_inline))

// For a small object of zeros that every start writes: with the initialised data, on a page that the loader has written
// already. Elsewhere it would be a page fault more.
#define PROF_WRITTEN_AT_START __attribute__((section(".data")))

// For a symbol that leaves the library. Everything else is hidden (-fvisibility=hidden and
// agent/exports.txt).
#define PROF_EXPORT extern "C" __attribute__((visibility("default")))

// clang -Wthread-safety annotations; nothing under GCC.
#if defined(__clang__)
#define PROF_CAPABILITY(name) __attribute__((capability(name)))
#define PROF_GUARDED_BY(lock) __attribute__((guarded_by(lock)))
#define PROF_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define PROF_TRY_ACQUIRE(...) __attribute__((try_acquire_capability(__VA_ARGS__)))
#define PROF_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))
#define PROF_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#else
#define PROF_CAPABILITY(name)
#define PROF_GUARDED_BY(lock)
#define PROF_ACQUIRE(...)
#define PROF_TRY_ACQUIRE(...)
#define PROF_RELEASE(...)
#define PROF_REQUIRES(...)
#endif
