// The integer registers of one frame, in DWARF numbering.
//
// Context: `signal`, `hook`. The numbers and everything else that differs between architectures are in
//          registers_x86_64.h; AArch64 would be a second such pair of files.
#pragma once

#if defined(__x86_64__)
#include "agent/unwind/registers_x86_64.h"
#else
#error "agent/unwind/registers.h: write registers_<architecture>.h and .cc"
#endif
