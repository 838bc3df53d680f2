// A program's name as a part of a file's name.
#pragma once

#include <cstddef>
#include <string_view>

namespace profagent {

// A file's name has 255 bytes at most: what stands around the program's, a pid among it, needs some of them.
inline constexpr size_t kMaxProgramName = 200;

inline std::string_view ShortenedName(std::string_view program) {
  if (program.size() <= kMaxProgramName) return program;
  size_t size = kMaxProgramName;
  while (size > 0 && (program[size] & 0xc0) == 0x80) --size;  // not within a character of UTF-8
  return program.substr(0, size);
}

}  // namespace profagent
