// The recipe of nearly every address, straight from its FDE, by as little code as possible.
//
// Context:   `signal`, `hook`. No lock, no allocation, no state.
// Why:       a sample that decodes does it once or twice, with caches that belong to the program. The first decoding
//            of a sample cost 5.5 us in cc1plus, each further one 1.6: the difference is taken to be code that is not
//            cached. The general reader, interpreter and packer are 5 KiB of it, this function is 1.3 KiB; it takes
//            3.6 us off the median sample of cc1plus (14.1 us, tests/bench/unwind_bench.py).
// Knows:     CIEs that are byte for byte those of gcc and clang (zR and zPLR, pc-relative 4-byte addresses), and the
//            operations that compilers write for rbp, rbx, r12-r15 and a CFA on a register.
// Promise:   only the tables' segments are read, and every byte of the entry at most once. What it answers is what
//            MakeRecipe makes of FindRow's row (tests/unit/unwind compares them over whole libraries); about anything
//            else it says nothing, and the general way is taken.
#pragma once

#include "agent/base/signal_safe.h"
#include "agent/unwind/eh_frame.h"
#include "agent/unwind/recipe.h"

namespace profagent {

// `entry`: where the FDE stands that FindTableEntry answered for pc. kNone: not known.
PROF_SIGNAL_SAFE Recipe QuickRecipe(const EhFrameTables& tables, uintptr_t entry, uintptr_t pc);

}  // namespace profagent
