// Our functions for slots that led to another allocator's: malloc's family, operator new and operator delete, and jemalloc's
// functions with flags, by which some programs (BIND) allocate everything.
//
// Context: RedirectionsTo in `bootstrap`; the hooks in `hook`, by a redirected slot (slot_patch.h) only, never by name. They forward
//          by address to what the slot held, so that nothing turns back to them.
// new:     a bad_alloc that the real operator throws passes through the hook, which has nothing to destroy but an
//          InAllocator (allocation.h, where the unwinder tells us).
#pragma once

#include <cstdint>
#include <span>

#include "agent/interpose/slot_patch.h"

namespace profagent {

enum class ForeignPart : uint8_t {
  kMallocFamily,  // names that we have too
  kOtherNames,    // C23's, which not every libc has, and we only with it; jemalloc's
  kOperators,
};

// The functions of this part that `object` defines. Once for each part.
RedirectedPart RedirectionsTo(const LoadedObject& object, ForeignPart part);

}  // namespace profagent
