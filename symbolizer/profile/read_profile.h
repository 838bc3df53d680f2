// Reads a profile from a file or from memory, and trusts nothing in it.
//
// Context: `offline`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "symbolizer/profile/profile.h"

namespace profagent {

// A few KB of gzip can ask for terabytes. What a profile may become is bounded before any of it is allocated.
struct ReadLimits {
  size_t file = size_t{1} << 30;  // bytes of the file as it is
  size_t uncompressed =
      size_t{1} << 30;  // bytes after gunzip; the largest profiles seen in practice are some 300 MB
  size_t in_memory =
      size_t{4} << 30;  // bytes of the decoded messages, estimated from a scan of the encoded ones
};

// gzip'd or plain. The error names the file and says what it is, where that can be told (perf.data, ELF,
// text...).
Result<Profile> ReadProfile(const std::string& path, const ReadLimits& limits = {});

// The same from bytes in memory.
Result<Profile> DecodeProfile(std::string_view bytes, const ReadLimits& limits = {});

}  // namespace profagent
