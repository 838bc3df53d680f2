// Whose malloc the program calls, and what that takes to see all of it.
//
// Context:  `bootstrap`, in the agent's constructor: everything that is loaded is relocated.
// Cases:    libc, by far the most: our names stand before its own, nothing more is done.
//           Another library behind us (preloaded after us, or linked by the program): malloc comes by our names, but it may
//           have an operator new that calls no malloc, and a calloc that calls the malloc that is ours.
//           Another library before us: its names win, and ours are called by hardly anybody.
//           The program itself, by an allocator linked into it, or a sanitizer: its calls within itself never leave it, and
//           there is no heap profile.
// How:      the objects are asked in the order in which the loader binds names. What a definition before us does is found out
//           by calling it: a wrapper that hands on to the next one (RTLD_NEXT) arrives in our hook, and then it is none of
//           our business. It is called in a child process: its constructor runs after ours, and it may not be ready.
// Then:     slot_patch.h leads to us what would pass us by. What still comes by our names while another library stands
//           before us goes where it went without us, to the next definition; it is counted only where that library does
//           not have the name (allocator.h).
#pragma once

#include <cstdint>

struct link_map;

namespace profagent {

enum class AllocatorPlace : uint8_t { kLibc, kBehindUs, kBeforeUs, kProgram, kSanitizer };

struct FoundAllocator {
  AllocatorPlace place;
  const link_map* object;

  bool can_be_followed() const { return place < AllocatorPlace::kProgram; }
};

FoundAllocator FindAllocator();

// Once, before the first sample is wanted. Says at debug verbosity what is taken from where.
void FollowAllocator(const FoundAllocator& allocator);

}  // namespace profagent
