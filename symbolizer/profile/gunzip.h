// gzip'd bytes to plain bytes, all members of the stream.
//
// Context: `offline`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace profagent {

bool LooksGzipped(std::string_view bytes);

// At most `limit` bytes come out; more is an error. So are a truncated stream, a wrong checksum and bytes
// after the end.
Result<std::string> Gunzip(std::string_view bytes, size_t limit);

// One member, no name and no time in its header: equal input gives equal bytes.
std::string Gzip(std::string_view bytes);

}  // namespace profagent
