// Comparing and copying what other threads may read meanwhile, without libc's memcmp and memcpy: a program built with the thread
// sanitizer has its own of these, which see the reading and the writing but not the release and acquire between them, and would
// report a race that is none.
//
// Context: any.
#pragma once

#include <cstddef>

#include "agent/base/signal_safe.h"

namespace profagent {

// Relaxed atomics, of which no compiler makes a call of memcmp or memcpy again.
template <class T>
PROF_ALWAYS_INLINE bool AreSame(const T* a, const T* b, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    T left, right;
    __atomic_load(a + i, &left, __ATOMIC_RELAXED);
    __atomic_load(b + i, &right, __ATOMIC_RELAXED);
    if (!(left == right)) return false;
  }
  return true;
}

template <class T>
PROF_ALWAYS_INLINE void CopyTo(T* to, const T* from, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    T element;
    __atomic_load(from + i, &element, __ATOMIC_RELAXED);
    __atomic_store(to + i, &element, __ATOMIC_RELAXED);
  }
}

}  // namespace profagent
