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

// For a symbol that leaves the library (agent/exports.txt). Everything else is hidden (-fvisibility=hidden).
#define PROF_EXPORT extern "C" __attribute__((visibility("default")))
