// Whether this is a build for a sanitizer, whose runtime has memory, frames and system calls of its own.
#pragma once

namespace profagent::testing {

#if defined(__has_feature)  // clang
#define PROF_TEST_HAS_FEATURE(name) __has_feature(name)
#else
#define PROF_TEST_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    PROF_TEST_HAS_FEATURE(address_sanitizer) || PROF_TEST_HAS_FEATURE(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#undef PROF_TEST_HAS_FEATURE

}  // namespace profagent::testing
