// Which SIGABRT is abort's.
//
// Context: FindAbort in `bootstrap`; IsInAbort in `signal`.
#pragma once

#include <ucontext.h>

namespace profagent {

// Before the first IsInAbort, which is false where libc's abort was not found.
void FindAbort();

// Raised by abort, and not by a raise of the program's, after whose handler it goes on.
bool IsInAbort(const ucontext_t& context);

}  // namespace profagent
