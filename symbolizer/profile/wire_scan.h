// Looks over an encoded profile before protobuf decodes it: is it one profile, and how much memory will it
// take?
//
// protobuf's parser is lenient where pprof's is not: fields of another wire type and group markers are kept
// as unknown fields (so half of all text files "parse"), and two concatenated profiles become one. And it
// allocates as it goes: an empty Sample is two bytes in the file and over a hundred in memory.
//
// Context: `offline`. Allocates nothing.
#pragma once

#include <cstddef>
#include <string_view>

#include "agent/base/result.h"

namespace profagent {

struct WireScan {
  size_t memory = 0;  // bytes that the decoded message will take, estimated from above
};

// An error in pprof's words: "unrecognized profile format", "concatenated profiles detected", "empty input
// file".
Result<WireScan> ScanEncodedProfile(std::string_view bytes);

}  // namespace profagent
