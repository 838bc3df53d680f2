// Where encoded bytes go: a file, a socket, a buffer, the next encoder.
//
// Context: `dump`, `offline`. False: no more bytes are wanted or possible; whoever writes stops soon, and the
//          owner of the sink knows why.
#pragma once

#include <cstddef>
#include <span>

#include "agent/base/function_ref.h"

namespace profagent {

using ByteSink = FunctionRef<bool(std::span<const std::byte>)>;

}  // namespace profagent
