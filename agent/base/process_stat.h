// The numbers of /proc/PID/stat.
//
// Context: every one. The text is the caller's: nothing is read here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace profagent {

// Fields as proc(5) counts them.
inline constexpr int kStatParent = 4;
inline constexpr int kStatStart = 22;  // in ticks of 10 ms since boot

// 0: no such field. Of those behind the second, the name in parentheses: it may hold anything, a parenthesis too, and the last one
// ends it.
inline uint64_t StatNumber(std::string_view stat, int field) {
  size_t end = stat.rfind(')');
  for (int passed = 2; passed < field && end != stat.npos; ++passed) {
    stat.remove_prefix(end + 1);
    end = stat.find(' ');
  }
  if (end == stat.npos) return 0;
  uint64_t number = 0;
  for (char digit : stat.substr(end + 1)) {
    if (digit < '0' || digit > '9') break;
    number = number * 10 + static_cast<uint64_t>(digit - '0');
  }
  return number;
}

}  // namespace profagent
