// The names by which C programs ask for memory.
//
// Context: every one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace profagent {

enum class AllocationName : uint8_t {
  kMalloc,
  kCalloc,
  kRealloc,
  kReallocarray,
  kPosixMemalign,
  kAlignedAlloc,
  kMemalign,
  kValloc,
  kPvalloc,
};

// By number; a null byte follows each.
inline constexpr std::string_view kAllocationNames[] = {
    "malloc",        "calloc",   "realloc", "reallocarray", "posix_memalign",
    "aligned_alloc", "memalign", "valloc",  "pvalloc",
};
static_assert(std::size(kAllocationNames) == static_cast<size_t>(AllocationName::kPvalloc) + 1);

}  // namespace profagent
