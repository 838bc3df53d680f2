// Puts bytes into a file so that readers see the whole of it or nothing, and the application sees nothing at all.
//
// Context:  `dump`, `offline`: raw system calls only; works in a signal handler.
// Promises: the file appears under its name when it is complete (temporary name in the same directory, mode 0600,
//           then rename; symbolic links are followed to the file they mean and stay). A FIFO, a terminal, /dev/null,
//           /dev/stdout or /proc/self/fd/N is written to directly. Never a signal for the application: not SIGPIPE
//           of a reader that left, nor SIGXFSZ of a file size limit, nor SIGTTOU of a terminal. A reader that does
//           not read is given up after kFileWriterPatience.
// Failure:  the temporary file is removed, an older file of that name is untouched, and the error names path and
//           reason.
#pragma once

#include "agent/base/result.h"
#include "agent/base/text.h"
#include "agent/base/units.h"
#include "agent/encode/byte_sink.h"

namespace profagent {

inline constexpr Nanos kFileWriterPatience{10 * kNanosPerSecond};

// `produce` writes all bytes into the sink that it is given.
Status WriteProfileFile(const char* path, FunctionRef<Status(ByteSink)> produce);

// What can be removed again of a profile that was written there: the file that `path` means, through all links. Empty: a device, a
// FIFO, a descriptor.
PathText WrittenFile(const PathText& path);

}  // namespace profagent
